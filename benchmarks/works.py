"""The works; those of values that grow are in ``growing_works``.

Everything here is data; ``contest`` lets the contenders take turns at it, ``report`` shows it.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.growing_works import growing_works
from benchmarks.task import Measures, Synchronous
from benchmarks.work import CPU, HAND, MB, POCOFLOW, US, Entry, Goal, Metric, Work, peers

MS = Metric("ms", "ms", 1)
CPU_MS = Metric("cpu_ms", "ms of the processor", 1)

# Copies of everything take long: the peers are compared with one of the settings.
OTHERS = {"NORMAL": " The peers take part in the same with FULL.", "FULL": ""}


def memory() -> Work:
    return Work(
        "memory",
        "A step in memory",
        "One node in a loop reads a number, adds one and writes it back: all of it is overhead.",
        {"steps": 20_000},
        (US, CPU),
        (HAND, POCOFLOW, Entry("by_pocoflow", "one hook"), *peers()),
        (
            Goal("a step with nobody listening, to the loop by hand", "cpu_us", 5),
            Goal("a step with one hook", "cpu_us", 12, "one hook"),
        ),
        rounds=7,
    )


def chain() -> Work:
    return Work(
        "chain",
        "A chain of 10,000 nodes",
        "Each node adds one and goes on to the next. The building is counted apart; pocoflow "
        "validates the graph in it.",
        {"nodes": 10_000},
        (Metric("us", "us per node"), Metric("build_us", "us per node to build", 1)),
        (HAND, POCOFLOW, *peers()),
        rounds=3,
    )


def short(steps: int) -> Work:
    return Work(
        f"short-{steps}",
        f"Runs of {steps} steps, of nodes of four classes",
        "What a run costs beside its steps. A new flow is made "
        "of four new nodes, wired, validated and run once.",
        {"runs": 2000 // steps, "steps": steps},
        (Metric("us", "us per run", 1), CPU),
        (HAND, POCOFLOW, Entry("by_pocoflow", "a new flow")),
        function="short",
        fixed=frozenset({"steps"}),
    )


def typed() -> Work:
    return Work(
        "typed",
        "A typed step in memory",
        "The loop of the first work under a Pydantic schema of five fields, one of them a list of "
        "two texts: as a class, and as functions (two, of which each is a step).",
        {"steps": 1000},
        (US, CPU),
        (HAND, Entry("by_pocoflow", "class"), Entry("by_pocoflow", "function")),
    )


def phases(kind: str, title: str, what: str, *entries: Entry) -> Work:
    return Work(
        kind,
        title,
        f"The loop of the first work. {what}",
        {"steps": 1000},
        (US, CPU),
        (HAND, *entries),
        function=kind.replace("-", "_"),
    )


RUN, RUN_ASYNC = Entry("by_pocoflow", "run"), Entry("by_pocoflow", "run_async")


def every_phase() -> tuple[Work, ...]:
    return (
        phases(
            "awaited",
            "A step of three asynchronous phases",
            "Each phase is async def; none of them waits for anything.",
            RUN,
            RUN_ASYNC,
        ),
        phases("async-node", "An AsyncNode under run", "Only exec_async is awaited.", RUN),
        phases(
            "beside",
            "Synchronous phases under run_async",
            "They are called in threads, off the event loop.",
            RUN_ASYNC,
        ),
        phases("limited", "A synchronous exec with a timeout", "Nobody waits for that long.", RUN),
    )


def stored(synchronous: Synchronous) -> Work:
    full = synchronous == "FULL"
    survives = "a power cut" if full else "a killed process"
    with_one = "with journal = False, to sqlite3 with one commit"
    return Work(
        f"stored-{synchronous.lower()}",
        f"A persisted step that survives {survives} ({synchronous})",
        "The loop of the first work with a text of 1 kB in the store; every step is on disk "
        "before the next one begins.",
        {"steps": 1000},
        (US, CPU, MB),
        (
            HAND,
            Entry("by_hand", "one commit"),
            POCOFLOW,
            Entry("by_pocoflow", "journal = False", base="one commit"),
            *peers(),
        ),
        (
            Goal("a persisted step, to sqlite3 with the same two commits", "us", 2),
            *([Goal(with_one, "us", 1.5, "journal = False", base="one commit")] if full else ()),
        ),
        function="stored",
        synchronous=synchronous,
        counted=("steps", 40),
    )


def large(synchronous: Synchronous) -> Work:
    return Work(
        f"large-{synchronous.lower()}",
        f"200 steps beside a text of 1 MB that does not change ({synchronous})",
        "By hand only what has changed is written; *full copy* writes the whole store."
        + OTHERS[synchronous],
        {"steps": 200},
        (US, CPU, MB),
        (
            HAND,
            Entry("by_hand", "full copy"),
            POCOFLOW,
            *(peers() if synchronous == "FULL" else ()),
        ),
        (
            Goal("the time of a step beside 1 MB", "us", 3),
            Goal("the size of the file", "mb", 1.2),
        ),
        rounds=3,
        function="large",
        synchronous=synchronous,
    )


def chat(synchronous: Synchronous) -> Work:
    all_peers = (
        Entry("by_langgraph"),
        Entry("by_langgraph", "DeltaChannel"),
        *peers("by_langgraph"),
    )
    return Work(
        f"chat-{synchronous.lower()}",
        f"1,000 steps of a chat that grows by 1 kB a step ({synchronous})",
        "Each step appends a message. The exponent is of the power of the steps with which the "
        "bytes grow: 1 is proportional, 2 is a copy of everything at each step."
        + OTHERS[synchronous],
        {"steps": 1000},
        (US, CPU, MB, Metric("exponent", "exponent", 2, compared=False)),
        (
            HAND,
            Entry("by_hand", "full copy"),
            POCOFLOW,
            *(all_peers if synchronous == "FULL" else ()),
        ),
        (
            Goal("the time of a step of a growing chat", "us", 5),
            Goal("its bytes on disk", "mb", 2),
            Goal("the exponent of the bytes", "exponent", 1.05, kind="value"),
        ),
        rounds=3,
        function="chat",
        synchronous=synchronous,
    )


def in_turns(sizes: Mapping[str, int]) -> Measures:
    """What many waits take, so many at a time, if nothing else costs anything."""
    rounds = -(-sizes["items"] // sizes.get("concurrency", sizes.get("threads", 1)))
    return {"ms": float(rounds * sizes["milliseconds"])}


def awaits() -> Work:
    return Work(
        "awaits",
        "1,000 awaits of 5 ms, 100 at a time",
        "The items of a list are awaited, a hundred at once.",
        {"items": 1000, "concurrency": 100, "milliseconds": 5},
        (MS, CPU_MS),
        (HAND, POCOFLOW, *peers()),
        (Goal("1,000 awaits, to the ideal", "ms", 1.35),),
        ideal=in_turns,
        fixed=frozenset({"concurrency", "milliseconds"}),
    )


def journaled() -> Work:
    return Work(
        "journaled",
        "The same, each result kept on disk (FULL)",
        "Results are on disk before the run goes on; those that end together may share a commit.",
        {"items": 1000, "concurrency": 100, "milliseconds": 5},
        (MS, CPU_MS),
        (HAND, POCOFLOW, *peers()),
        rounds=3,
        synchronous="FULL",
        counted=("items", 250),
        counted_per_one=False,
        ideal=in_turns,
        fixed=frozenset({"concurrency", "milliseconds"}),
    )


def blocking() -> Work:
    return Work(
        "blocking",
        "64 blocking calls of 20 ms in 16 threads",
        "The items of a list are slept over by `time.sleep`, sixteen at once.",
        {"items": 64, "threads": 16, "milliseconds": 20},
        (MS, CPU_MS),
        (HAND, POCOFLOW, *peers()),
        (Goal("64 blocking calls, to the ideal", "ms", 1.4),),
        ideal=in_turns,
        fixed=frozenset({"items", "threads", "milliseconds"}),
    )


def importing() -> Work:
    pydantic = "from pydantic import BaseModel"
    return Work(
        "import",
        "Importing it",
        "A Python process that does nothing but import, from its start to its end. *by hand* "
        "imports nothing; the import of pydantic is measured in the environment of pocoflow.",
        {},
        (MS, CPU_MS),
        (Entry("by_pocoflow", pydantic), HAND, POCOFLOW, *peers()),
        (Goal("importing, to `from pydantic import BaseModel`", "cpu_ms", 1.5),),
        rounds=25,
        warms=False,
    )


def processes(synchronous: Synchronous) -> Work:
    return Work(
        f"processes-{synchronous.lower()}",
        f"8 processes write 50 runs of 10 steps into one file ({synchronous})",
        "Each process has the file open and does one run after another. The time is that of all "
        "of them, per step.",
        {"processes": 8, "runs": 50, "steps": 10},
        (US, Metric("errors", "runs that failed", 0, compared=False)),
        (HAND, POCOFLOW, *peers()),
        (
            Goal("the time of a step among 8 processes", "us", 4),
            Goal("runs that fail", "errors", 0, kind="value"),
        ),
        rounds=3,
        function="processes",
        synchronous=synchronous,
        fixed=frozenset({"processes", "steps"}),
    )


def lists() -> Work:
    columns = []
    for name, many in (("runs", "10,000"), ("many", "100,000")):
        columns.append(Metric(f"{name}_ms", f"100 of {many} runs, ms", 3))
        columns.append(Metric(f"{name}_events_ms", "events of one, ms", 3))
    goals = []
    for name, many in (("runs", "10,000"), ("many", "100,000")):
        goals.append(Goal(f"ms to list 100 of {many} runs", f"{name}_ms", 1, kind="value"))
        goals.append(Goal("ms to list the events of one", f"{name}_events_ms", 0.2, kind="value"))
    return Work(
        "lists",
        "Listing runs",
        "The newest 100 runs of a file with many, and the 20 events (peers: the steps) of one.",
        {"runs": 10_000, "many": 100_000},
        (*columns, Metric("many_status_ms", "of a rare status, ms", 3, compared=False)),
        (HAND, POCOFLOW, *peers()),
        tuple(goals),
        rounds=3,
        warms=False,
    )


def peak() -> Work:
    return Work(
        "peak",
        "Peak memory over 10,000 persisted steps with a store of 100 kB (NORMAL)",
        "The store is a list of 100 messages and a number that each step changes. What is counted "
        "is how far the process rises above where it was before the run.",
        {"steps": 10_000},
        (Metric("peak_mb", "MB", 1),),
        (HAND, POCOFLOW, *peers()),
        (Goal("MB more than by hand", "peak_mb", 3, kind="difference"),),
        rounds=1,
        synchronous="NORMAL",
        fresh=True,
        warms=False,
    )


def slowest() -> Work:
    return Work(
        "slowest",
        "The slowest of 10,000 persisted steps (FULL)",
        "Beside the median step, and as many flushes of 4 kB in the same folder right after.",
        {"steps": 10_000},
        (
            Metric("max_us", "us of the slowest", 0),
            Metric("p999_us", "of one in 1,000", 0),
            US,
            Metric("flush_us", "us of a flush", 0, compared=False),
            Metric("max_flush_us", "of the slowest", 0, compared=False),
            Metric("max_to_flush", "slowest / flush", 1, compared=False),
        ),
        (HAND, POCOFLOW),
        (Goal("the slowest step, to the median flush", "max_to_flush", 3, kind="value"),),
        rounds=2,
        synchronous="FULL",
    )


def check() -> Work:
    return Work(
        "check",
        "A cold `pocoflow check`",
        "Of a flow of three functions, beside a process that imports pocoflow and the same module.",
        {},
        (MS, CPU_MS),
        (Entry("by_pocoflow", "import pocoflow, article"), POCOFLOW),
        (Goal("a cold check, to the imports", "cpu_ms", 2),),
        rounds=15,
        warms=False,
    )


def validation() -> Work:
    return Work(
        "validation",
        "Validating a graph of 10,000 functions",
        "Beside drawing it. The exponent is of the power with which the time grows from a tenth of "
        "it; the last column is what each run of a validated flow takes longer.",
        {"nodes": 10_000},
        (
            Metric("validate_us", "us per node", 1, compared=False),
            Metric("draw_us", "to draw it", 1, compared=False),
            Metric("exponent", "exponent", 2, compared=False),
            Metric("class_us", "us per node of a class", 1, compared=False),
            Metric("class_exponent", "exponent", 2, compared=False),
            Metric("added_us", "us per run", 2, compared=False),
        ),
        (POCOFLOW,),
        (
            Goal("validating a graph, to drawing it", "validate_us", 10, to="draw_us"),
            Goal("the exponent of the time that it takes", "exponent", 1.15, kind="value"),
        ),
        rounds=3,
    )


def many() -> Work:
    return Work(
        "many",
        "10,000 runs at once on one event loop",
        "Each adds one, waits until all runs have come this far, and adds one again. *Mixed up* "
        "counts runs that end with anything but their own number.",
        {"runs": 10_000},
        (
            Metric("us", "us per run"),
            Metric("kb", "kB per run", 1),
            Metric("mixed", "mixed up", 0, compared=False),
        ),
        (HAND, POCOFLOW, *peers()),
        (Goal("runs that are mixed up", "mixed", 0, kind="value"),),
        rounds=2,
        fresh=True,
        patience=1.5,
    )


def long() -> Work:
    return Work(
        "long",
        "100,000 steps in one run (NORMAL)",
        "What a long run costs late, and what it keeps.",
        {"steps": 100_000},
        (
            Metric("early_us", "us per step early", 1, compared=False),
            Metric("late_us", "late", 1, compared=False),
            Metric("bytes", "bytes a step", 0, compared=False),
            Metric("peak_mb", "MB of memory", 1, compared=False),
            Metric("descriptors", "descriptors", 0, compared=False),
        ),
        (POCOFLOW,),
        rounds=1,
        synchronous="NORMAL",
        fresh=True,
        warms=False,
    )


def big() -> Work:
    kinds = (("kept", "as it is"), ("replaced", "replaced"))
    columns = [
        metric
        for name, title in kinds
        for metric in (
            Metric(f"{name}_mb", f"MB on disk, {title}", 0, compared=False),
            Metric(f"{name}_s", "s", 2, compared=False),
            Metric(f"{name}_peak_mb", "MB of memory", 0, compared=False),
        )
    ]
    return Work(
        "big",
        "A value of 50 MB over four checkpoints (NORMAL)",
        "Once it stays as it is, once each step replaces it.",
        {"megabytes": 50},
        tuple(columns),
        (POCOFLOW,),
        rounds=1,
        synchronous="NORMAL",
        fresh=True,
        warms=False,
    )


def waits() -> Work:
    kinds = (("element", "an element changes"), ("append", "one is added"), ("text", "a text"))
    return Work(
        "waits",
        "The longest that an event loop waits while a run on it writes (NORMAL)",
        "The store has a list, or a text, of 5 MB, and each of 20 steps changes an element of it, "
        "adds one, or replaces the text. What is counted is CPU time of the process.",
        {"kilobytes": 5_000},
        tuple(Metric(f"{name}_ms", f"ms, {title}", 0, compared=False) for name, title in kinds),
        (POCOFLOW,),
        tuple(
            Goal(f"the longest wait, {title}", f"{name}_ms", 20, kind="value")
            for name, title in kinds
        ),
        rounds=3,
        synchronous="NORMAL",
        fresh=True,
        warms=False,
    )


def monitor() -> Work:
    return Work(
        "monitor",
        "The monitor with 100,000 runs, beside an empty Streamlit page",
        "From an address entered in a new profile to the first table, and from a click to the "
        "next page. Needs Chromium.",
        {"runs": 100_000, "rounds": 7},
        (
            Metric("first_s", "s to the first table", 2, compared=False),
            Metric("empty_first_s", "of the empty page", 2, compared=False),
            Metric("turn_s", "s to turn a page", 2, compared=False),
            Metric("empty_turn_s", "of the empty page", 2, compared=False),
            Metric("refresh_ms", "ms read by a refresh", 1, compared=False),
        ),
        (Entry("by_monitor"),),
        rounds=1,
        fixed=frozenset({"rounds"}),
        patience=10,
        warms=False,
        by_name=True,
    )


def all_works() -> dict[str, Work]:
    works = (
        memory(),
        chain(),
        short(10),
        short(100),
        typed(),
        *every_phase(),
        stored("NORMAL"),
        stored("FULL"),
        large("NORMAL"),
        large("FULL"),
        chat("NORMAL"),
        chat("FULL"),
        *growing_works(),
        awaits(),
        journaled(),
        blocking(),
        importing(),
        processes("NORMAL"),
        processes("FULL"),
        lists(),
        peak(),
        slowest(),
        check(),
        validation(),
        many(),
        long(),
        big(),
        waits(),
        monitor(),
    )
    return {work.name: work for work in works}
