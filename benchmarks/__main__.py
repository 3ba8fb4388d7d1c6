"""Runs pocoflow, its peers and what one would write by hand side by side.

python -m benchmarks
python -m benchmarks --only memory,stored-full --peers langgraph,dbos --rounds 11
python -m benchmarks --list
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks import durability, environments, machine, report
from benchmarks.contest import Settings, hold
from benchmarks.environments import ROOT, Environment
from benchmarks.work import PEERS, Work
from benchmarks.works import all_works


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    works = chosen(options)
    if options.list:
        for work in works:
            print(f"{work.name:18} {work.title}")
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        settings = Settings(options.rounds, options.budget, options.limit, Path(folder))
        results = measure(works, options, settings)
    text = "\n".join(document(results, options))
    print(text)
    (options.out / "results.md").write_text(text + "\n", encoding="utf-8")
    file = options.out / "results.json"
    file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if not options.no_plot:
        plot(file, options)
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, names = parser.add_argument, lambda text: [one for one in text.split(",") if one]
    add("--only", type=names, metavar="WORKS", help="these works, with commas (all but monitor)")
    add("--peers", type=names, metavar="PEERS", help="beside these, with commas; none for none")
    add("--list", action="store_true", help="list the works and do nothing")
    add("--rounds", type=int, help="of every work, instead of its own number")
    add("--scale", type=float, default=1.0, help="multiplies the sizes (1)")
    add("--size", action="append", default=[], metavar="WORK.NAME=NUMBER", help="sets one size")
    add("--budget", type=float, default=4.0, help="seconds of a peer for a work (4)")
    add("--limit", type=float, default=20.0, help="seconds of a peer for one round (20)")
    add("--envs", type=Path, default=environments.default_folder(), help="where environments are")
    add("--upgrade", action="store_true", help="make the environments anew")
    add("--no-envs", action="store_true", help="use this interpreter for every contender")
    add("--folder", type=Path, help="where databases go, for another disk")
    add("--out", type=Path, default=ROOT / "build" / "benchmarks", help="for the results")
    add("--no-plot", action="store_true", help="draw nothing")
    return parser.parse_args(arguments)


def chosen(options: argparse.Namespace) -> list[Work]:
    """The works that were asked for, with their sizes and contenders."""
    known = all_works()
    names = options.only or [name for name, work in known.items() if not work.by_name]
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"there is no work {', '.join(unknown)} (works: {', '.join(known)})")
    works = {name: known[name].scaled(options.scale) for name in names}
    for setting in options.size:
        place, _, number = setting.partition("=")
        name, _, size = place.rpartition(".")
        if name not in works or size not in works[name].sizes or not number.isdecimal():
            raise SystemExit(f"--size {setting}: WORK.NAME=NUMBER, of a work that is chosen")
        works[name] = works[name].sized(size, int(number))
    return list(works.values())


def contenders(options: argparse.Namespace) -> set[str]:
    if options.peers is None:
        return set(PEERS)
    names = {f"by_{name.replace('-', '_')}" for name in options.peers if name != "none"}
    if unknown := names - set(PEERS):
        known = ", ".join(name.removeprefix("by_") for name in PEERS)
        raise SystemExit(f"there is no peer {', '.join(sorted(unknown))} (peers: {known})")
    return names


def measure(works: list[Work], options: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    asked = contenders(options)
    places: dict[str, Environment] = {}
    found = []
    assert settings.folder is not None
    about = machine.describe(settings.folder)
    for work in works:
        entries = [
            entry
            for entry in work.entries
            if entry.contender in asked or entry.contender not in PEERS
        ]
        for entry in entries:
            if entry.contender not in places:
                places[entry.contender] = place(entry.contender, options)
        began = perf_counter()
        results = hold(work, entries, places, settings)
        print(f"{work.name}: {perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        found.append(report.as_dict(work, results) | {"table": list(report.table(work, results))})
    return {"machine": about, "versions": versions(found), "works": found}


def place(name: str, options: argparse.Namespace) -> Environment:
    if options.no_envs:
        return Environment(Path(sys.executable))
    return environments.make(name, options.envs.resolve(), anew=options.upgrade)


def versions(found: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """What is installed where each contender ran."""
    known: dict[str, dict[str, str]] = {}
    for work in found:
        for row in work["rows"]:
            known[row["contender"]] = row.pop("versions") or known.get(row["contender"], {})
    return known


def document(results: dict[str, Any], options: argparse.Namespace) -> Iterator[str]:
    yield "# Benchmarks\n"
    for name, value in results["machine"].items():
        yield f"- {name}: {value}"
    for contender, installed in results["versions"].items():
        named = ", ".join(
            f"{name} {version}"
            for name, version in installed.items()
            if name.lower() in durability.PACKAGES.get(contender, ()) or name == "sqlite"
        )
        yield f"- {contender}: {named or 'not installed'}"
    yield (
        f"\nMedians; scale {options.scale:g}. Ratios are to the first line of each table; those of "
        "journal = False are to by hand, one commit."
    )
    yield from report.table_of_goals([goal for work in results["works"] for goal in work["goals"]])
    for work in results["works"]:
        yield from work.pop("table")
    stored = [work for work in results["works"] if work["synchronous"]]
    if stored:
        yield from durability.table({row["label"] for work in stored for row in work["rows"]})


def plot(file: Path, options: argparse.Namespace) -> None:
    found = place("plot", options)
    if found.failure:
        print(f"no plot: {found.failure}", file=sys.stderr)
        return
    command = [
        str(found.python),
        "-m",
        "benchmarks.plot",
        str(file),
        str(file.with_name("ratios.svg")),
    ]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        print(f"no plot: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
