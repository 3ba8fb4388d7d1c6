"""Each rule finds what its example shows, and nothing in the example repaired."""

import linecache
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pocoflow import Flow, Node
from pocoflow.check.rules import RULES, show_rule
from tests.unit.check.rules_page import PRELUDE, rules_page

ROOT = Path(__file__).parents[3]
# PF403 needs a database, see test_check_cli.py, PF111 the strict check, see test_silence.py.
SHOWN = [code for code in RULES if code not in ("PF111", "PF403")]


def flow_of(program: str, name: str) -> Any:
    """The flow of a program; its source can be read, as that of a file."""
    text = f"{PRELUDE}\n\n{program}"
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    module: Any = sys.modules.setdefault("example", ModuleType("example"))
    exec(compile(text, name, "exec"), vars(module))  # noqa: S102
    return module.flow


@pytest.mark.parametrize("code", SHOWN)
def test_the_wrong_example_is_found_and_the_right_one_is_not(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example of a rule has one finding, of that rule and its severity; repaired, none."""
    monkeypatch.chdir(tmp_path)
    rule = RULES[code]
    found = flow_of(rule.wrong, f"<wrong {code}>").validate()
    assert [(one.code, one.severity) for one in found] == [(code, rule.severity)]
    assert flow_of(rule.right, f"<right {code}>").validate() == []


@pytest.mark.parametrize("code", SHOWN)
def test_a_finding_names_place_node_and_fix(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads a finding knows where to look and what to do."""
    monkeypatch.chdir(tmp_path)
    (one,) = flow_of(RULES[code].wrong, f"<wrong {code}>").validate()
    assert one.message
    assert one.fix
    assert one.flow
    assert (one.node is None) == (code in ("PF001", "PF110", "PF114", "PF115", "PF305", "PF401"))
    # The class of an example that is no file has no place that could be found.
    assert one.file == f"<wrong {code}>" or code in ("PF001", "PF107", "PF208", "PF401", "PF402")
    shown = str(one)
    assert all(part in shown for part in (one.code, one.severity, one.message, one.fix))


def test_codes_are_of_their_family_and_stay() -> None:
    """A code is stable: those that were given are still there, and none is used twice."""
    assert list(RULES) == sorted(RULES)
    assert {code[:3] for code in RULES} == {"PF0", "PF1", "PF2", "PF3", "PF4"}
    assert {"PF101", "PF102", "PF103", "PF104", "PF105", "PF106", "PF107"} <= set(RULES)
    assert {"PF201", "PF202", "PF203", "PF204", "PF205", "PF206"} <= set(RULES)
    assert {"PF301", "PF302", "PF303", "PF401", "PF402", "PF403"} <= set(RULES)


def test_the_page_of_the_rules_is_made_from_them() -> None:
    """docs/reference/rules.md says what ``pocoflow rule`` says."""
    page = ROOT / "docs" / "reference" / "rules.md"
    assert page.read_text("utf-8") == rules_page(), (
        "python -m tests.unit.check.rules_page > docs/reference/rules.md"
    )


def test_a_rule_tells_every_severity_that_its_findings_have() -> None:
    """An edge that is written over is an error of a flow and a warning of a node: both are told."""
    first, second, third = (Node(name=name) for name in ("first", "second", "third"))
    first.then("default", second).then("default", third)
    (one,) = Flow(start=first).validate()
    assert (one.code, one.severity) == ("PF105", "warning")
    assert RULES["PF105"].severity == "error"
    assert show_rule(RULES["PF105"]).startswith(
        "PF105: two edges for one action (error or warning)"
    )
    assert "| two edges for one action | error or warning |" in rules_page()
    assert RULES["PF101"].severities == "error"


def test_a_rule_is_shown_with_its_examples() -> None:
    """``pocoflow rule`` prints what, why, wrong and right."""
    rule = RULES["PF301"]
    text = show_rule(rule)
    assert text.startswith("PF301: read before write (error or warning)")
    assert "    flow = Flow(start=is_long, schema=Article)" in text.split("Wrong:")[1]
    assert max(map(len, text.splitlines())) <= 100
