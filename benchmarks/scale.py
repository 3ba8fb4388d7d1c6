"""Durable steps per second on a PostgreSQL server and on a file, and a model of them.

    python -m benchmarks.scale

It starts servers with ``initdb`` of the system, on the disk of ``--folder``, and measures in turns:
the bare commits of the server (``pgbench``, an INSERT each), the steps of pocoflow and those of
DBOS, each in processes of their own; then pocoflow with other payloads, round trips and databases.
Of each the best round counts, and the median processor time. A model of a few numbers is fitted to
that, shown beside what was measured, and extrapolated.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks import environments, machine
from benchmarks.contest import Process, Settings
from benchmarks.task import numbers
from benchmarks.work import Entry, Work
from tests.servers import Server, found, running

WORK = Work("durable", "", "", {}, (), (), patience=10)
OPTIONS = "-c max_connections=300"
CONNECTIONS = (1, 2, 4, 8, 16)
BYTES = (100, 1_000, 10_000, 100_000)
TRIPS_MS = (0, 4, 16)
MANY = 100
DAY = 86_400


class Cell(NamedTuple):
    """What is measured at once.

    Attributes:
        contender: Its module, or ``pgbench``.
        database: ``server``, ``proxy`` or ``file``.
        workers: How many processes.
        at_once: How many runs each has at once, or none for looks of a worker for what is due; of
            ``pgbench`` how many connections there are.
        size: Bytes of text that a step changes.
        trip_ms: What the proxy adds to each round trip.
        databases: How many servers.
        steps: How many steps a run has, if not what the options say.
    """

    contender: str
    database: str = "server"
    workers: int = 1
    at_once: int = 1
    size: int = 1_000
    trip_ms: int = 0
    databases: int = 1
    steps: int = 0


LOOKS = Cell("by_pocoflow", at_once=0)
SHORT = Cell("by_pocoflow", at_once=MANY, steps=1)


@dataclass
class Rate:
    """What came out: steps, or bare commits, per second; microseconds and bytes for each."""

    each_second: float
    client_us: float = 0.0
    server_us: float = 0.0
    stored: float = 0.0
    log: float = 0.0

    @property
    def cpu_us(self) -> float:
        return self.client_us + self.server_us


# -- the server -----------------------------------------------------------------------------------


def processor_seconds(server: Server) -> float:
    """The processor time of a server so far, once nobody is connected; Linux only.

    Raises:
        TimeoutError: Somebody still is, after a minute.
    """
    until = time.monotonic() + 60
    data = server.folder / "data" / "postmaster.pid"
    main = data.read_text(encoding="utf-8").split("\n", 1)[0]
    while True:
        ticks, is_used = 0, False
        for place in Path("/proc").glob("[0-9]*"):
            try:
                fields = (place / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
                command = (place / "cmdline").read_bytes()
            except OSError:
                continue
            if main == place.name:
                ticks += sum(map(int, fields[11:15]))  # with its children that have ended
            elif main == fields[1]:
                ticks += int(fields[11]) + int(fields[12])
                is_used |= b"tester" in command or not command
        if not is_used:
            return ticks / os.sysconf("SC_CLK_TCK")
        if time.monotonic() > until:
            raise TimeoutError("a contender stays connected to the server")
        time.sleep(0.01)


def written(server: Server) -> tuple[float, float]:
    """The bytes of its databases, and of its log so far."""
    ((stored, log),) = server.execute(
        "SELECT sum(pg_database_size(oid)), pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') "
        "FROM pg_database"
    )
    return float(stored), float(log)


def pgbench(server: Server, connections: int, seconds: int) -> float:
    """Transactions per second of one INSERT each."""
    binaries = found()
    assert binaries is not None
    server.execute("CREATE TABLE IF NOT EXISTS bare (client bigint, value text)")
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write("INSERT INTO bare VALUES (:client_id, repeat('x', 100));\n")
        script.flush()
        command = [str(binaries / "pgbench"), "-h", str(server.folder), "-U", "tester", "-n"]
        command += ["-c", str(connections), "-j", str(min(connections, 2)), "-T", str(seconds)]
        command += ["-M", "prepared", "-f", script.name, "postgres"]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(told.partition("tps = ")[2].split()[0])


@contextmanager
def proxy(server: Server) -> Iterator[tuple[Path, list[float]]]:
    """A socket to a server, in a folder, whose round trips take some seconds more."""
    seconds = [0.0]
    is_up, to_end = threading.Event(), list[Callable[[], object]]()

    async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(1 << 16):
                await asyncio.sleep(seconds[0] / 2)
                target.write(data)
        finally:
            target.close()

    async def serve(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        there = await asyncio.open_unix_connection(server.folder / ".s.PGSQL.5432")
        await asyncio.gather(pump(source, there[1]), pump(there[0], target), return_exceptions=True)

    async def work(place: Path) -> None:
        listens = await asyncio.start_unix_server(serve, place)
        ends, loop = asyncio.Event(), asyncio.get_running_loop()
        to_end.append(partial(loop.call_soon_threadsafe, ends.set))
        is_up.set()
        await ends.wait()
        listens.close()

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / ".s.PGSQL.5432"
        thread = threading.Thread(target=lambda: asyncio.run(work(place)))
        thread.start()
        is_up.wait(60)
        try:
            yield Path(folder), seconds
        finally:
            to_end[0]()
            thread.join()


# -- measuring ------------------------------------------------------------------------------------


class Field:
    """Servers, and the processes of the contenders."""

    def __init__(self, stack: ExitStack, options: argparse.Namespace) -> None:
        self._stack, self._options = stack, options
        disk = options.folder.resolve()
        self.servers = [
            stack.enter_context(running(OPTIONS, disk)) for _ in range(max(options.databases))
        ]
        self._proxy, self._delay = stack.enter_context(proxy(self.servers[0]))
        self._urls = [server.url("benchmark") for server in self.servers]
        self._processes: dict[str, list[Process]] = {}
        self._pythons = {"by_pocoflow": environments.Environment(Path(sys.executable))}
        self.failures: dict[str, str] = {}

    def measure(self, cell: Cell) -> Rate | None:
        """Measure a cell once; ``None`` if that cannot be."""
        server, options = self.servers[0], self._options
        if cell.contender == "pgbench":
            return Rate(pgbench(server, cell.at_once, options.seconds))
        if cell.contender in self.failures:
            return None
        try:
            processes = self._at_work(cell.contender, cell.workers)
            self._play(cell, processes, 2)  # what is imported, made and connected first
            servers = self.servers[: cell.databases]
            used, (stored, log) = sum(map(processor_seconds, servers)), written(server)
            usual = max(2, options.steps // 10) if cell.at_once > 1 else options.steps
            steps = cell.steps or usual
            found = self._play(cell, processes, steps)
            used = sum(map(processor_seconds, servers)) - used
            more = [
                after - before for after, before in zip(written(server), (stored, log), strict=True)
            ]
        except Exception as exc:  # noqa: BLE001 - told in the table
            self.failures[cell.contender] = str(exc)
            return None
        count = cell.workers * max(cell.at_once, 1) * steps
        rate = Rate(
            sum(1e6 / one["us"] for one in found),
            statistics.fmean(one["cpu_us"] for one in found),
        )
        if cell.database == "file":
            rate.stored = found[0]["mb"] * 1e6 / count
        else:
            rate.server_us = used / count * 1e6
            rate.stored, rate.log = more[0] / count, more[1] / count
        return rate

    def _play(self, cell: Cell, processes: Sequence[Process], steps: int) -> list[dict[str, float]]:
        sizes = {"runs": cell.at_once, "steps": steps, "bytes": cell.size}
        self._delay[0] = cell.trip_ms / 1e3
        urls = [self._urls[number % cell.databases] for number in range(len(processes))]
        if cell.database == "proxy":
            urls = [self._urls[0].replace(str(self.servers[0].folder), str(self._proxy))]
        elif cell.database == "file":
            urls = [""]
        requests = [{"sizes": sizes, "variant": url, "synchronous": "FULL"} for url in urls]
        with ThreadPoolExecutor(len(processes)) as threads:
            return list(threads.map(Process.play, processes, requests))

    def _at_work(self, contender: str, count: int) -> list[Process]:
        if contender not in self._pythons:
            self._pythons[contender] = environments.make(contender, self._options.envs)
        place = self._pythons[contender]
        if place.failure:
            raise RuntimeError(place.failure)
        known = self._processes.setdefault(contender, [])
        settings = Settings(folder=self._options.folder.resolve())
        while len(known) < count:
            known.append(Process(Entry(contender), WORK, place.python, settings))
            self._stack.callback(known[-1].close)
        return known[:count]


def cells(options: argparse.Namespace) -> list[Cell]:
    """What is measured, in turns."""
    bare = [Cell("pgbench", at_once=count) for count in CONNECTIONS]
    peers = ["by_pocoflow", *(f"by_{peer}" for peer in options.peers.split(",") if peer != "none")]
    raced = [
        Cell(peer, workers=workers, at_once=at_once)
        for at_once, counts in ((1, options.workers), (MANY, options.workers[:3]))
        for workers in counts
        for peer in peers
    ]
    ours = payload_cells()
    ours += [Cell("by_pocoflow", "proxy", trip_ms=trip) for trip in TRIPS_MS]
    ours += [Cell("by_pocoflow", workers=count, databases=count) for count in options.databases]
    return list(dict.fromkeys([*bare, *raced, *ours, SHORT, LOOKS]))


def best(rates: Sequence[Rate]) -> Rate:
    """The fastest round, as others may use the machine; processor times are the medians."""
    fastest = max(rates, key=lambda one: one.each_second)
    return replace(
        fastest,
        client_us=statistics.median(one.client_us for one in rates),
        server_us=statistics.median(one.server_us for one in rates),
    )


# -- the model ------------------------------------------------------------------------------------


class Cost(NamedTuple):
    """Microseconds of a step: with many runs at once, more if it is alone, and for a kilobyte."""

    shared: float
    alone: float
    kilobyte: float

    def of(self, at_once: float, size: float) -> float:
        return self.shared + self.alone / at_once + self.kilobyte * size / 1e3


@dataclass(frozen=True)
class Model:
    """Steps per second of pocoflow, on one kind of database.

    A process works on a step for as long as ``client`` says, and its server for as long as
    ``server``; the commits of a step, two, wait for the disk and the network, together with those
    of the other runs of the process. Processors bound what all processes do together.

    Attributes:
        client: Of the process.
        server: Of the server.
        trips: Round trips of a step that is alone.
        flush_us: For how long a commit waits for the disk.
    """

    client: Cost
    server: Cost
    trips: float
    flush_us: float

    def step_us(self, at_once: float, size: float, trip_us: float = 0.0) -> float:
        """From one step to the next one of a process."""
        waits = self.trips * trip_us + 2 * self.flush_us
        return self.client.of(at_once, size) + self.server.of(at_once, size) + waits / at_once

    def rate(
        self,
        workers: float,
        at_once: float,
        size: float,
        trip_us: float = 0.0,
        *,
        cores: float = math.inf,
        of_server: float = math.inf,
    ) -> float:
        """Steps per second of processes, with processors for all, and of these for the server."""
        client, server = self.client.of(at_once, size), self.server.of(at_once, size)
        bounds = [workers * 1e6 / self.step_us(at_once, size, trip_us)]
        bounds += [cores * 1e6 / (client + server)]
        bounds += [of_server * 1e6 / server] if server else []
        return min(bounds)


def fitted_cost(known: dict[Cell, Rate], database: str, name: str) -> Cost:
    """The cost of a step by payload, from what is shared; and what it takes more alone."""

    def line(at_once: int) -> tuple[float, float]:
        rates = {
            size: known[Cell("by_pocoflow", database, at_once=at_once, size=size)] for size in BYTES
        }
        times = [getattr(rate, name) for rate in rates.values()]
        slope, base = statistics.linear_regression([size / 1e3 for size in rates], times)
        return slope, base

    (kilobyte, shared), (_, alone) = line(MANY), line(1)
    return Cost(max(shared, 0.0), max(alone - shared, 0.0), max(kilobyte, 0.0))


def fitted(known: dict[Cell, Rate], database: str) -> Model:
    """The model of a kind of database."""
    client = fitted_cost(known, database, "client_us")
    server = fitted_cost(known, database, "server_us")
    alone = known[Cell("by_pocoflow", database)]
    trips = 0.0
    if database == "server":
        slow = [
            1e3 / known[Cell("by_pocoflow", "proxy", trip_ms=trip)].each_second for trip in TRIPS_MS
        ]
        trips = statistics.linear_regression(TRIPS_MS, slow).slope
    waits = 1e6 / alone.each_second - client.of(1, 1_000) - server.of(1, 1_000)
    return Model(client, server, trips, max(waits / 2, 0.0))


# -- what is printed ------------------------------------------------------------------------------


def rows(known: dict[Cell, Rate], options: argparse.Namespace) -> Iterator[str]:
    bare = {cell.at_once: known[cell].each_second for cell in known if cell.contender == "pgbench"}
    yield "\nBare commits per second, by connections (pgbench)"
    yield "  ".join(f"{count}: {rate:,.0f}" for count, rate in bare.items())
    yield "\nSteps per second, 1 kB changed by each, on one server"
    yield "share: of the bare commits that as many connections make, two of which are a step"
    yield f"{'workers x runs':24}{'':12}{'steps/s':>9}{'share':>8}{'CPU us':>8}{'of server':>10}"
    for cell, rate in known.items():
        if cell.contender == "pgbench" or cell != Cell(*cell[:1], "server", *cell[2:4]):
            continue
        if cell == LOOKS:
            continue
        closest = max(count for count in bare if count <= cell.workers)
        share = rate.each_second * 2 / bare[closest]
        name = f"{cell.workers} x {cell.at_once}"
        yield (
            f"{name:24}{cell.contender.removeprefix('by_'):12}{rate.each_second:9,.0f}"
            f"{share:8.0%}{rate.client_us:8.0f}{rate.server_us:10.0f}"
        )
    yield "\nOne run a worker, one worker a database"
    for count in options.databases:
        rate = known[Cell("by_pocoflow", workers=count, databases=count)]
        yield f"{count} databases: {rate.each_second:,.0f} steps/s"
    yield "\nBy payload, one worker: steps/s, CPU us, of server, bytes stored, of the log"
    for cell, rate in known.items():
        if cell.contender == "by_pocoflow" and cell in payload_cells():
            name = f"{cell.database}, {cell.at_once} at once, {cell.size:,} bytes"
            yield (
                f"{name:36}{rate.each_second:9,.0f}{rate.client_us:8.0f}{rate.server_us:8.0f}"
                f"{rate.stored:10,.0f}{rate.log:10,.0f}"
            )
    yield "\nBy round trip, one worker: ms a step"
    for cell, rate in known.items():
        if cell.database == "proxy":
            yield f"{cell.at_once} at once, +{cell.trip_ms} ms: {1e3 / rate.each_second:.3f}"


def others(known: dict[Cell, Rate]) -> Iterator[str]:
    """What is no step."""
    yield "\nBesides: CPU us here and of the server"
    short, many, look = known[SHORT], known[Cell("by_pocoflow", at_once=MANY)], known[LOOKS]
    client, server = short.client_us - many.client_us, short.server_us - many.server_us
    yield f"the beginning and the end of a run: {client:.0f} and {server:.0f}"
    yield f"a look for what is due: {look.client_us:.0f} and {look.server_us:.0f}"


def payload_cells() -> list[Cell]:
    return [
        Cell("by_pocoflow", database, at_once=at_once, size=size)
        for database in ("server", "file")
        for at_once in (1, MANY)
        for size in BYTES
    ]


def modelled(known: dict[Cell, Rate]) -> Iterator[str]:
    models = {database: fitted(known, database) for database in ("server", "file")}
    yield "\nThe model, in microseconds a step: shared + alone / runs at once + kB of payload"
    for database, model in models.items():
        for name, cost in (("client", model.client), ("server", model.server)):
            yield (
                f"{database:8}{name:8}{cost.shared:8.0f} + {cost.alone:.0f} / runs + "
                f"{cost.kilobyte:.1f} * kB"
            )
        yield f"{database:8}waits   ({model.trips:.2f} * trip + 2 * {model.flush_us:.0f}) / runs"
    ours = {
        cell: rate
        for cell, rate in known.items()
        if cell.contender == "by_pocoflow"
        and cell.database != "proxy"
        and cell not in (SHORT, LOOKS)
    }
    cores = max(rate.each_second * rate.cpu_us / 1e6 for rate in ours.values())
    yield f"processors that were to be had: {cores:.2f} of {os.cpu_count()}"
    yield "\nMeasured, and by the model"
    off = []
    for cell, rate in ours.items():
        model = models[cell.database]
        said = model.rate(cell.workers, cell.at_once, cell.size, cores=cores)
        off.append(abs(math.log(said / rate.each_second)))
        name = f"{cell.database}, {cell.workers} x {cell.at_once}, {cell.size:,} bytes"
        yield f"{name:36}{rate.each_second:9,.0f}{said:9,.0f}"
    yield f"half of them are off by less than {math.expm1(statistics.median(off)):.0%}"
    yield from extrapolated(models["server"], known)


def extrapolated(model: Model, known: dict[Cell, Rate]) -> Iterator[str]:
    yield "\nSteps per second by the model, 0.5 ms from the server, 100 runs at once in each worker"
    sizes = (1_000, 10_000)
    yield f"{'workers':>8}{'server':>10}" + "".join(f"{size / 1e3:>9.0f} kB" for size in sizes)
    for workers in (1, 10, 100, 1_000):
        for processors in (2, 16, 64):
            rates = [model.rate(workers, MANY, size, 500, of_server=processors) for size in sizes]
            told = "".join(f"{rate:12,.0f}" for rate in rates)
            yield f"{workers:8,}{processors:>4} cores{told}"
    steps = 100e6
    yield f"\n100 million steps a day are {steps / DAY:,.0f} a second; of a database"
    for size in sizes:
        rate = known[Cell("by_pocoflow", at_once=MANY, size=size)]
        busy = model.server.of(MANY, size) * steps / DAY / 1e6
        yield (
            f"{size / 1e3:4.0f} kB a step: {busy:.2f} processors, "
            f"{rate.stored * steps / 1e9:,.0f} GB stored and "
            f"{rate.log * steps / 1e9:,.0f} GB of log a day"
        )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--workers", type=numbers, default=[1, 2, 4, 8], help="with commas")
    parser.add_argument("--databases", type=numbers, default=[1, 2, 4], help="with commas")
    parser.add_argument(
        "--steps", type=int, default=100, help="of a run that is alone; of one of many, a tenth"
    )
    parser.add_argument("--seconds", type=int, default=2, help="of pgbench")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", default="dbos", help="dbos or none")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--envs", type=Path, default=environments.default_folder())
    options = parser.parse_args(arguments)
    for name, value in machine.describe(options.folder).items():
        print(f"{name}: {value}")
    measured: dict[Cell, list[Rate]] = {cell: [] for cell in cells(options)}
    with ExitStack() as stack:
        field = Field(stack, options)
        for number in range(options.rounds):
            for cell, rates in measured.items():
                rate = field.measure(cell)
                rates += [] if rate is None else [rate]
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
    for contender, why in field.failures.items():
        print(f"{contender.removeprefix('by_')}: {why}")
    known = {cell: best(rates) for cell, rates in measured.items() if rates}
    for line in (*rows(known, options), *others(known), *modelled(known)):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
