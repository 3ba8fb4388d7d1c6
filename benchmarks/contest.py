"""Lets contenders take turns at a work, each in a process of its own."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.environments import ROOT, Environment
from benchmarks.task import Measures
from benchmarks.work import PEERS, Entry, Work


class Failed(Exception):
    """A contender did not do its work."""


@dataclass(frozen=True)
class Settings:
    """How the rounds are held.

    Attributes:
        rounds: How many, instead of what the work says.
        budget: Seconds that a peer may spend on one work before it stops taking turns.
        limit: Seconds that a round of a peer may last; of ours, ten times as much.
        folder: Where databases go.
    """

    rounds: int | None = None
    budget: float = 4.0
    limit: float = 20.0
    folder: Path | None = None


@dataclass
class Result:
    """What became of an entry.

    Attributes:
        measures: Of each of its rounds.
        failure: Why it has none, or not all of them.
        fsyncs: How often it flushes for each step, if that was counted.
        versions: What is installed where it ran.
    """

    entry: Entry
    measures: list[Measures] = field(default_factory=list)
    failure: str = ""
    fsyncs: float | None = None
    versions: dict[str, str] = field(default_factory=dict)
    spent: float = 0.0


class Process:
    """A worker's process."""

    def __init__(
        self, entry: Entry, work: Work, python: Path, settings: Settings, prefix: Sequence[str] = ()
    ) -> None:
        slack = 1 if entry.contender in PEERS else 10
        self.limit = settings.limit * work.patience * slack
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        environment |= {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
        if settings.folder is not None:
            environment["BENCHMARKS_FOLDER"] = str(settings.folder)
        command = ["-m", "benchmarks.worker", entry.contender, work.function or work.name]
        self.process = subprocess.Popen(
            [*prefix, str(python), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
        )
        try:
            self.versions: dict[str, str] = self._answer(60)["versions"]
        except BaseException:
            self.close()
            raise

    def play(self, request: dict[str, Any]) -> Measures:
        """Let it do one round.

        Raises:
            Failed: It did not.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Failed(f"its process ended: {self._last_words()}") from None
        measures: Measures = self._answer(self.limit)["measures"]
        return measures

    def _answer(self, limit: float) -> dict[str, Any]:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], limit)
        if not ready:
            raise Failed(f"not finished after {limit:g} s")
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(10)
            raise Failed(f"its process ended: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        for reason in ("missing", "absent", "error"):
            if reason in answer:
                raise Failed(str(answer[reason]))
        return answer

    def _last_words(self) -> str:
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        code = self.process.poll()
        return f"{lines[-1][:200] if lines else 'without a word'} (exit code {code})"

    def close(self) -> None:
        """End it, and whatever it started."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.log.close()


def hold(
    work: Work, entries: Sequence[Entry], places: dict[str, Environment], settings: Settings
) -> list[Result]:
    """Hold the rounds of a work: each begins with another contender."""
    results = [Result(entry, failure=places[entry.contender].failure) for entry in entries]
    processes: dict[Entry, Process] = {}
    try:
        for number in range(settings.rounds or work.rounds):
            turn = number % len(results)
            for result in results[turn:] + results[:turn]:
                peer = result.entry.contender in PEERS
                if not result.failure and (not peer or result.spent <= settings.budget):
                    take_turn(work, result, places, settings, processes)
    finally:
        for process in processes.values():
            process.close()
    for result in results:
        if work.counted and not result.failure:
            result.fsyncs = count_fsyncs(work, result.entry, places, settings)
    return results


def take_turn(
    work: Work,
    result: Result,
    places: dict[str, Environment],
    settings: Settings,
    processes: dict[Entry, Process],
) -> None:
    entry = result.entry
    try:
        process = processes.get(entry)
        if process is None:
            process = Process(entry, work, places[entry.contender].python, settings)
            processes[entry] = process
            if work.warms:
                process.play(request(work, entry, work.scaled(0.02).sizes))
        result.versions = process.versions
        began = perf_counter()
        result.measures.append(process.play(request(work, entry, work.sizes)))
        result.spent += perf_counter() - began
    except Failed as failed:
        result.failure = str(failed)
    if (work.fresh or result.failure) and entry in processes:
        processes.pop(entry).close()


def request(work: Work, entry: Entry, sizes: Any) -> dict[str, Any]:
    return {
        "sizes": dict(sizes),
        "variant": entry.variant,
        "synchronous": work.synchronous or "NORMAL",
    }


def count_fsyncs(
    work: Work, entry: Entry, places: dict[str, Environment], settings: Settings
) -> float | None:
    """How often it flushes, seen by strace.

    For each step: what twice as many steps need more. Or in all, opening the file included.
    """
    strace = shutil.which("strace")
    if strace is None or work.counted is None:
        return None
    name, few = work.counted
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace"
        prefix = [strace, "-f", "-qq", "-e", "trace=fsync,fdatasync", "-o", str(trace)]
        python = places[entry.contender].python
        seen: list[int] = []
        try:
            process = Process(entry, work, python, settings, prefix)
        except Failed as failed:
            print(f"no fsyncs of {entry.label} counted: {failed}", file=sys.stderr)
            return None
        try:
            for count in (few, 2 * few if work.counted_per_one else work.sizes[name]):
                process.play(request(work, entry, {**work.sizes, name: count}))
                calls = trace.read_text(encoding="utf-8", errors="replace").count("sync(")
                seen.append(calls - sum(seen))
        except Failed as failed:
            print(f"no fsyncs of {entry.label} counted: {failed}", file=sys.stderr)
            return None
        finally:
            process.close()
    return (seen[1] - seen[0]) / few if work.counted_per_one else seen[1]
