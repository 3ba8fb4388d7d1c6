"""``pocoflow check``: look for mistakes in flows. Modules are imported, no node is run."""

from __future__ import annotations

import argparse
import os
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

from pocoflow.check.findings import Finding
from pocoflow.check.proof import Proof
from pocoflow.check.report_formats import FORMATS
from pocoflow.check.rules import RULES
from pocoflow.cli.database import MOST_RUNS, open_database
from pocoflow.cli.output import CommandError, printable
from pocoflow.db import Status
from pocoflow.errors import FlowValidationError, PocoflowError
from pocoflow.flow.flow import Flow
from pocoflow.messages import closest
from pocoflow.views.targets import TARGET_HELP, add_database, load_flow

_OPEN: tuple[Status, ...] = ("queued", "running", "paused", "failed")

_SETTINGS = ("flows", "select", "ignore", "strict")


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``pocoflow check``."""
    parser.add_argument("flows", metavar="FLOW", nargs="*", help=TARGET_HELP)
    parser.add_argument("--format", choices=FORMATS, default="text", help="how to report (text)")
    for name, what in (("select", "only"), ("ignore", "not")):
        parser.add_argument(
            f"--{name}",
            metavar="CODES",
            type=_codes,
            action="extend",
            help=f"{what} these rules: codes, or prefixes such as PF3, separated by commas",
        )
    parser.add_argument("--strict", action="store_true", help="end with 1 for warnings, too")
    add_database(
        parser, "check whether their runs in this database that have not completed can be resumed"
    )
    parser.set_defaults(execute=check)


def _codes(text: str) -> list[str]:
    codes = [code.strip().upper() for code in text.split(",") if code.strip()]
    for code in codes:
        if not any(known.startswith(code) for known in RULES):
            raise argparse.ArgumentTypeError(f"there is no rule {code!r}{closest(code, RULES)}")
    return codes


def check(args: argparse.Namespace) -> int:
    """Look for mistakes in flows: their modules are imported, no node is run. Without FLOW, those
    of [tool.pocoflow] in pyproject.toml are checked: flows = ['package.module:flow']. Ends with 1
    if there are errors, with 2 if a flow cannot be imported. A comment at the line of a finding, #
    pocoflow: ignore[PF301], or Flow(ignore=('PF301',)), silences it, here and in a run; --strict
    reports those that silence nothing.
    """
    given = _configuration() if not args.flows else {}
    targets: Sequence[str] = args.flows or given.get("flows", [])
    if not targets:
        raise CommandError(
            "name a flow, package.module:flow or path/file.py:flow, or list them in "
            "pyproject.toml: [tool.pocoflow] flows = [...]"
        )
    select = args.select or given.get("select", [""])
    ignore = args.ignore or given.get("ignore", [])
    is_strict = args.strict or given.get("strict", False)
    with redirect_stdout(sys.stderr):  # what modules print is not part of the report
        flows = {target: load_flow(target) for target in targets}
        proofs = {target: _proof(flow, target) for target, flow in flows.items()}
    used = {finding for proof in proofs.values() for finding in proof.used}
    report = {}
    for target, flow in flows.items():
        findings = [*proofs[target].findings, *(_runs(flow, args.db) if args.db else ())]
        if is_strict:
            findings += proofs[target].needless(used)
        report[target] = [
            finding
            for finding in findings
            if finding.code.startswith(tuple(select)) and not finding.code.startswith(tuple(ignore))
        ]
    text = FORMATS[args.format](report)
    if text:
        print(text)
    if args.format == "text":
        for target, flow in flows.items():
            if flow.graph.is_limited:
                print(f"{target}: {flow.bound()}")
        if args.db and (unchecked := _unchecked_runs(flows.values(), args.db)):
            print(unchecked)
    all_findings = [finding for findings in report.values() for finding in findings]
    return 1 if any(is_strict or finding.severity == "error" for finding in all_findings) else 0


def _proof(flow: Flow, target: str) -> Proof:
    try:
        return flow.proof()
    except PocoflowError as exc:
        raise CommandError(f"{target} cannot be drawn: {exc}") from exc


def _runs(flow: Flow, path: str) -> Iterator[Finding]:
    """A finding for each unfinished run of the flow that could not be resumed."""
    with open_database(path) as database:
        stored_flow = flow.using(db_path=database)
        names = dict.fromkeys((flow.flow_name, *flow.formerly))
        runs = [run for name in names for run in database.list_runs(MOST_RUNS, flow_name=name)]
        for run in runs:
            if run["status"] == "completed":
                continue
            resumable = stored_flow.can_resume(run["run_id"])
            # With a node it is refused only for now, as an active run is, not because of its code.
            if resumable.refusal is not None and not resumable.node:
                yield _not_resumable(flow.flow_name, run, resumable.refusal)
            elif resumable.unsaved:
                yield _missing_values(flow.flow_name, run, resumable.unsaved)


def _unchecked_runs(flows: Iterable[Flow], path: str) -> str:
    """Names the other flows that have open runs."""
    names = {name for flow in flows for name in (flow.flow_name, *flow.formerly)}
    with open_database(path) as database:
        runs = [run for status in _OPEN for run in database.list_runs(MOST_RUNS, status=status)]
    counts = Counter(
        run["flow_name"]
        for run in runs
        if run["flow_name"] not in names
        and (run["status"] != "failed" or run["error_type"] == "Interrupted")
    )
    if not counts:
        return ""
    shown = ", ".join(f"{printable(name)!r} ({count})" for name, count in sorted(counts.items()))
    return (
        f"not looked at, as they are of other flows: the open runs of {shown}; if a flow has "
        "another name now, write Flow(..., formerly=(<old name>,))"
    )


def _configuration() -> dict[str, Any]:
    """``[tool.pocoflow]`` of the nearest pyproject.toml, whose folder becomes the current one."""
    for folder in (Path.cwd(), *Path.cwd().parents):
        file = folder / "pyproject.toml"
        if file.is_file():
            try:
                given = tomllib.loads(file.read_text("utf-8")).get("tool", {}).get("pocoflow", {})
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
                raise CommandError(f"{file} cannot be read: {exc}") from exc
            _check_settings(file, given)
            os.chdir(folder)
            return dict(given)
    return {}


def _check_settings(file: Path, given: dict[str, Any]) -> None:
    for name, value in given.items():
        if name not in _SETTINGS:
            raise CommandError(
                f"{file}: [tool.pocoflow] has no setting {name!r}{closest(name, _SETTINGS)} "
                f"(settings: {', '.join(_SETTINGS)})"
            )
        if name == "strict" and type(value) is not bool:
            raise CommandError(f"{file}: [tool.pocoflow] strict is true or false, not {value!r}")
        are_texts = isinstance(value, list) and all(isinstance(text, str) for text in value)
        if name != "strict" and not are_texts:
            raise CommandError(
                f"{file}: [tool.pocoflow] {name} is a list of strings, not {value!r}"
            )
        if name in ("select", "ignore"):
            try:
                given[name] = [code for text in value for code in _codes(text)]
            except argparse.ArgumentTypeError as exc:
                raise CommandError(f"{file}: [tool.pocoflow] {name}: {exc}") from exc


# -- stored runs (PF403) -------------------------------------------------------------------------


def _not_resumable(flow_name: str, run: Mapping[str, Any], exc: Exception) -> Finding:
    """The finding about a run that could not be resumed because of ``exc``."""
    first = exc.findings[0] if isinstance(exc, FlowValidationError) else None
    lines = str(exc).splitlines() if first is None else [f"{first.code}: {first.message}"]
    parts = [line for line in lines if not line.startswith("  - ")]
    changes = "; ".join(line.removeprefix("  - ") for line in lines if line.startswith("  - "))
    parts[:-1] = [line if line[-1:] in ".:?" else f"{line}." for line in parts[:-1]]
    why = " ".join([*parts, changes]).strip() or type(exc).__name__
    text = f"run {run['run_id']!r} ({run['status']}) could not go on: {why}"
    remedies = exc.remedies if isinstance(exc, PocoflowError) else ()
    fixes = [f"{it.what}: {it.python}" for it in remedies] or ["do what the message says"]
    fix = "; or ".join(["finish it under the code that it was started with", *fixes])
    finding = Finding("PF403", "error", flow_name, run["current_node"], message=text, fix=fix)
    return finding if first is None else replace(finding, file=first.file, line=first.line)


def _missing_values(flow_name: str, run: Mapping[str, Any], keys: Sequence[str]) -> Finding:
    """The finding about a run that would be resumed without the values of some keys."""
    were = "was" if len(keys) == 1 else "were"
    text = f"run {run['run_id']!r} ({run['status']}) would go on without "
    text += f"{', '.join(map(repr, keys))}, which {were} not saved, or cannot be read: a node that "
    text += "reads such a key fails"
    fix = (
        f"resume it with changes={{{keys[0]!r}: ...}}, or pass what cannot be stored as a resource"
    )
    return Finding("PF403", "warning", flow_name, run["current_node"], message=text, fix=fix)
