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
    parser.description = (
        "Look for mistakes in flows: their modules are imported, no node is run. Without FLOW, "
        "those of [tool.pocoflow] in pyproject.toml are checked: flows = ['package.module:flow']. "
        "Ends with 1 if there are errors, with 2 if a flow cannot be imported. A comment at the "
        "line of a finding, # pocoflow: ignore[PF301], or Flow(ignore=('PF301',)), silences it, "
        "here and in a run; --strict tells which of them silence nothing."
    )
    parser.add_argument("flows", metavar="FLOW", nargs="*", help=TARGET_HELP)
    parser.add_argument("--format", choices=FORMATS, default="text", help="how to report (text)")
    for name, what in (("select", "only"), ("ignore", "not")):
        parser.add_argument(
            f"--{name}",
            metavar="CODES",
            type=_codes,
            action="extend",
            help=f"{what} these rules; a code, or the beginning of some, such as PF3; with commas",
        )
    parser.add_argument("--strict", action="store_true", help="end with 1 for warnings, too")
    add_database(
        parser, "look whether their runs in this database that have not completed can go on"
    )
    parser.set_defaults(execute=check)


def _codes(text: str) -> list[str]:
    codes = [one.strip().upper() for one in text.split(",") if one.strip()]
    for code in codes:
        if not any(known.startswith(code) for known in RULES):
            raise argparse.ArgumentTypeError(f"there is no rule {code!r}{closest(code, RULES)}")
    return codes


def check(args: argparse.Namespace) -> int:
    """Check the flows and print the report."""
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
    with redirect_stdout(sys.stderr):  # what modules print is no part of the report
        flows = {target: load_flow(target) for target in targets}
        proofs = {target: _proof(flow, target) for target, flow in flows.items()}
    used = {one for proof in proofs.values() for one in proof.used}
    report = {}
    for target, flow in flows.items():
        found = [*proofs[target].findings, *(_runs(flow, args.db) if args.db else ())]
        if is_strict:
            found += proofs[target].needless(used)
        report[target] = [
            one
            for one in found
            if one.code.startswith(tuple(select)) and not one.code.startswith(tuple(ignore))
        ]
    text = FORMATS[args.format](report)
    if text:
        print(text)
    if args.format == "text":
        for target, flow in flows.items():
            if flow.graph.is_limited:
                print(f"{target}: {flow.bound()}")
        if args.db and (others := _others(flows.values(), args.db)):
            print(others)
    every = [one for found in report.values() for one in found]
    return 1 if any(is_strict or one.severity == "error" for one in every) else 0


def _proof(flow: Flow, target: str) -> Proof:
    try:
        return flow.proof()
    except PocoflowError as exc:
        raise CommandError(f"{target} cannot be drawn: {exc}") from exc


def _runs(flow: Flow, path: str) -> Iterator[Finding]:
    """A finding for each unfinished run of the flow that could not go on."""
    with open_database(path) as database:
        there = flow.using(db_path=database)
        names = dict.fromkeys((flow.flow_name, *flow.formerly))
        runs = [run for name in names for run in database.list_runs(MOST_RUNS, flow_name=name)]
        for run in runs:
            if run["status"] == "completed":
                continue
            found = there.can_resume(run["run_id"])
            # With a node it is refused for now, as one that is at work is, and not for its code.
            if found.refusal is not None and not found.node:
                yield _cannot_go_on(flow.flow_name, run, found.refusal)
            elif found.unsaved:
                yield _lacks(flow.flow_name, run, found.unsaved)


def _others(flows: Iterable[Flow], path: str) -> str:
    """Which flows that are not among these have runs that a worker would carry on with."""
    names = {name for flow in flows for name in (flow.flow_name, *flow.formerly)}
    with open_database(path) as database:
        runs = [run for one in _OPEN for run in database.list_runs(MOST_RUNS, status=one)]
    found = Counter(
        run["flow_name"]
        for run in runs
        if run["flow_name"] not in names
        and (run["status"] != "failed" or run["error_type"] == "Interrupted")
    )
    if not found:
        return ""
    shown = ", ".join(f"{printable(name)!r} ({count})" for name, count in sorted(found.items()))
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
        texts = isinstance(value, list) and all(isinstance(one, str) for one in value)
        if name != "strict" and not texts:
            raise CommandError(
                f"{file}: [tool.pocoflow] {name} is a list of strings, not {value!r}"
            )
        if name in ("select", "ignore"):
            try:
                given[name] = [code for one in value for code in _codes(one)]
            except argparse.ArgumentTypeError as exc:
                raise CommandError(f"{file}: [tool.pocoflow] {name}: {exc}") from exc


# -- stored runs (PF403) -------------------------------------------------------------------------


def _cannot_go_on(flow_name: str, run: Mapping[str, Any], exc: Exception) -> Finding:
    """The finding on a run whose rehearsal raised ``exc``."""
    first = exc.findings[0] if isinstance(exc, FlowValidationError) else None
    lines = str(exc).splitlines() if first is None else [f"{first.code}: {first.message}"]
    parts = [line for line in lines if not line.startswith("  - ")]
    changes = "; ".join(line.removeprefix("  - ") for line in lines if line.startswith("  - "))
    parts[:-1] = [line if line[-1:] in ".:?" else f"{line}." for line in parts[:-1]]
    why = " ".join([*parts, changes]).strip() or type(exc).__name__
    text = f"run {run['run_id']!r} ({run['status']}) could not go on: {why}"
    remedies = exc.remedies if isinstance(exc, PocoflowError) else ()
    ways = [f"{one.what}: {one.python}" for one in remedies] or ["do what the message says"]
    fix = "; or ".join(["finish it under the code that it was started with", *ways])
    found = Finding("PF403", "error", flow_name, run["current_node"], message=text, fix=fix)
    return found if first is None else replace(found, file=first.file, line=first.line)


def _lacks(flow_name: str, run: Mapping[str, Any], keys: Sequence[str]) -> Finding:
    """The finding on a run that goes on without the values of some keys."""
    were = "was" if len(keys) == 1 else "were"
    text = f"run {run['run_id']!r} ({run['status']}) would go on without "
    text += f"{', '.join(map(repr, keys))}, which {were} not saved, or cannot be read: a node that "
    text += "reads such a key fails"
    fix = (
        f"resume it with changes={{{keys[0]!r}: ...}}, or pass what cannot be stored as a resource"
    )
    return Finding("PF403", "warning", flow_name, run["current_node"], message=text, fix=fix)
