"""The works that are about values that grow, and about what nobody touches beside them."""

from __future__ import annotations

from benchmarks.growing import ALLOWED, CHARACTERS, WAYS
from benchmarks.task import Synchronous
from benchmarks.work import HAND, MB, POCOFLOW, Entry, Goal, Metric, Work

DELTA, DBOS = Entry("by_langgraph", "DeltaChannel"), Entry("by_dbos")

# What they would be measured for is a copy of everything at each step.
SOME_PEERS = " The other peers write the whole state at each step, or nothing: see the chat."

UNTYPED, TYPED = Entry("by_pocoflow", "untyped"), Entry("by_pocoflow", "typed")

PEAK = Metric("peak_mb", "MB of memory", 0)


def size_of(characters: int) -> str:
    return f"{characters} B" if characters < 1000 else f"{characters // 1000} kB"


def grow(name: str) -> Work:
    """A way to grow."""
    metrics = []
    for characters in CHARACTERS:
        metrics += [
            Metric(f"{characters}_us", f"us per step, {size_of(characters)}", 0),
            Metric(f"{characters}_times", "bytes", 2, compared=False),
            Metric(f"{characters}_exponent", "exponent", 2, compared=False),
        ]
    most = f"the bytes of a value that grows, to twice what is added and {ALLOWED} a step"
    return Work(
        f"grow-{name}",
        f"A step that {WAYS[name].title} (NORMAL)",
        "It adds 100 B, 1 kB or 10 kB; by hand only that is written. Bytes are times what is "
        "added, without those of a file with one step. The exponent is of the power of the steps "
        "with which the file grows, from half of them to all." + SOME_PEERS,
        {"steps": 300},
        tuple(metrics),
        (HAND, POCOFLOW, DELTA, DBOS),
        (
            Goal(most, "to_allowed", 1, kind="value"),
            Goal("the exponent of the bytes", "exponent", 1.05, kind="value"),
        ),
        rounds=3,
        synchronous="NORMAL",
        warms=False,
    )


def untouched(synchronous: Synchronous | None) -> Work:
    where = f"on disk ({synchronous})" if synchronous else "in memory"
    goals = []
    for way in ("untyped", "typed"):
        for kind, most in (("dicts", 0.5), ("models", 1.5)):
            beside = f"a step beside 5,000 {kind}, to one without, {way}"
            append = f"ms that an append to 5,000 {kind} takes more than to none, {way}"
            goals += [
                Goal(beside, f"{kind}_us", 1.2, way, to="us"),
                Goal(append, f"append_{kind}_ms", most, way, kind="value"),
            ]
    return Work(
        f"untouched-{(synchronous or 'memory').lower()}",
        f"A step beside 5,000 elements that nobody touches, {where}",
        "Each step adds one to a number, beside none, 5,000 dicts of two texts, or 5,000 objects "
        "of a class. Then it appends one, too: what that takes more than if there are none. It is "
        "CPU time that is counted, the median and the mean, and a reading of the clock each time."
        + SOME_PEERS,
        {"steps": 300, "elements": 5000},
        (
            Metric("us", "us per step without", 1),
            Metric("dicts_us", "beside dicts", 1, compared=False),
            Metric("dicts_mean_us", "mean", 1, compared=False),
            Metric("models_us", "beside models", 1, compared=False),
            Metric("models_mean_us", "mean", 1, compared=False),
            Metric("append_dicts_ms", "ms more to append a dict", 2, compared=False),
            Metric("append_models_ms", "a model", 2, compared=False),
        ),
        (HAND, UNTYPED, TYPED, DELTA, DBOS),
        tuple(goals),
        rounds=3,
        function="untouched" if synchronous else "untouched-memory",
        synchronous=synchronous,
    )


def branches(synchronous: Synchronous | None) -> Work:
    where = f"on disk ({synchronous})" if synchronous else "in memory"
    metrics, goals = [], []
    for name, at_once in (("one", "one after another"), ("hundred", "100 at once")):
        metrics += [
            Metric(f"{name}_us", f"us per branch, {at_once}", 1),
            Metric(f"{name}_beside_us", "beside dicts", 1, compared=False),
            Metric(f"{name}_mb", "MB", 2, compared=False),
            Metric(f"{name}_beside_mb", "beside dicts", 2, compared=False),
        ]
        for what, unit in (("time", "us"), ("memory", "mb")):
            told = f"the {what} of branches beside 5,000 dicts, to that without, {at_once}"
            goals.append(Goal(told, f"{name}_beside_{unit}", 1.2, to=f"{name}_{unit}"))
    return Work(
        f"branches-{(synchronous or 'memory').lower()}",
        f"Branches beside 5,000 dicts that nobody touches, {where}",
        "Items are branches: each adds one to its number, one after another, or waits for 50 ms "
        "before, 100 at once. What is counted is CPU time, and what Python allocates at most."
        + SOME_PEERS,
        {"items": 300, "elements": 5000},
        tuple(metrics),
        (HAND, POCOFLOW, DELTA, DBOS),
        tuple(goals),
        rounds=3,
        function="branches" if synchronous else "branches-memory",
        synchronous=synchronous,
    )


def batch() -> Work:
    return Work(
        "batch",
        "A batch of 10,000 results of 1 kB (NORMAL)",
        "Each result is on disk before the next one is made, and all of them are in the store at "
        "the end." + SOME_PEERS,
        {"items": 10_000, "characters": 1000},
        (Metric("us", "us per item", 0), MB, PEAK),
        (HAND, POCOFLOW, Entry("by_langgraph"), DBOS),
        (Goal("the bytes of a batch, to those of its results", "times", 2, kind="value"),),
        rounds=1,
        synchronous="NORMAL",
        fresh=True,
        warms=False,
        fixed=frozenset({"characters"}),
    )


def conversation() -> Work:
    most = f"the bytes of a conversation, to twice what is said and {ALLOWED} a step"
    return Work(
        "conversation",
        "A conversation of 10,000 messages of three kinds, the last one by tokens (NORMAL)",
        "In pocoflow it is a model with a list of a union of models. What is counted is CPU time; "
        "bytes are times what is said." + SOME_PEERS,
        {"messages": 10_000, "tokens": 200},
        (
            Metric("first_us", "us per step, first", 0),
            Metric("last_us", "last", 0),
            Metric("token_us", "a token", 0),
            Metric("times", "bytes", 2, compared=False),
            PEAK,
        ),
        (HAND, POCOFLOW, DELTA, DBOS),
        (Goal(most, "to_allowed", 1, kind="value"),),
        rounds=1,
        synchronous="NORMAL",
        fresh=True,
        warms=False,
    )


def restoring() -> Work:
    return Work(
        "restoring",
        "Restoring a step of 10,000 (NORMAL)",
        "Of a nested value that grows by about 100 B a step, after a tenth of them, a quarter, "
        "half, three quarters and all: the one that takes longest beside decoding its value. What "
        "it takes to find a step is left out.",
        {"steps": 10_000},
        (
            Metric("times", "times decoding", 2, compared=False),
            Metric("ms", "ms", 2, compared=False),
            Metric("decode_ms", "decoding", 2, compared=False),
            Metric("find_ms", "finding", 2, compared=False),
        ),
        (POCOFLOW,),
        (Goal("restoring a step, to decoding its value", "times", 3, kind="value"),),
        rounds=3,
        synchronous="NORMAL",
    )


def growing_works() -> tuple[Work, ...]:
    return (
        *(grow(name) for name in WAYS),
        untouched(None),
        untouched("NORMAL"),
        untouched("FULL"),
        branches(None),
        branches("NORMAL"),
        batch(),
        conversation(),
        restoring(),
    )
