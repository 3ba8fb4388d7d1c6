"""What nodes emit, recorded: whoever follows a run from elsewhere gets it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from pocoflow import AskNode, BatchNode, Flow, Node, Parallel, Question, RunPaused, Store, context
from pocoflow.errors import DefinitionError, NotStorableError
from pocoflow.events import Emitted, EmittedVoid, Event, Followed
from tests.rows import valid


class Talk(Node):
    """Emits tokens, in as many attempts as it takes."""

    max_retries = 3

    def __init__(self, *failures: int, tokens: int = 3) -> None:
        super().__init__()
        self.failures, self.tokens, self.tries = failures, tokens, 0

    def exec(self, prep_result: Any) -> str:
        self.tries += 1
        for number in range(self.tokens):
            context().emit(f"{self.tries}.{number}")
        if self.tries in self.failures:
            raise ConnectionError("cut")
        return "said"

    def post(self, store: Store[Any], prep_result: Any, exec_result: str) -> str:
        store["said"] = exec_result
        return "default"


def emitted(followed: Iterable[Followed]) -> list[object]:
    """The values that were emitted, in their order."""
    return [one.event.value for one in followed if isinstance(one.event, Emitted)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database."""
    return tmp_path / "runs.db"


def recording(node: Any, path: Path) -> Flow[Any]:
    """A flow that records what its nodes emit."""
    return Flow(node, flow_name="f", db_path=path, record_emitted=True)


def test_emitted_values_are_followed_in_their_place(path: Path) -> None:
    """They come between the beginning of their step and its end, with a number each."""
    flow = recording(Talk(), path)
    flow.run({}, run_id="a")
    followed = list(flow.follow("a"))
    kinds = [one.event.kind for one in followed]
    assert kinds == ["flow_start", "node_start", "emit", "emit", "emit", "node_end", "flow_end"]
    assert emitted(followed) == ["1.0", "1.1", "1.2"]
    event = followed[2].event
    assert event == Emitted("a", "Talk", 0, "1.0")
    numbers = [one.number for one in followed]
    assert numbers == sorted(set(numbers))
    for index, number in enumerate(numbers):
        assert list(flow.follow("a", after=number)) == followed[index + 1 :]


def test_a_stream_gets_them_at_once_as_before(path: Path) -> None:
    """Recording takes nothing from who listens in the process."""
    streamed: list[Event] = list(recording(Talk(), path).stream({}))
    assert [one.value for one in streamed if isinstance(one, Emitted)] == ["1.0", "1.1", "1.2"]


def test_many_values_take_few_rows(path: Path) -> None:
    """Values that come faster than 20 commits a second share rows."""
    flow = recording(Talk(tokens=5000), path)
    flow.run({}, run_id="a")
    assert len(emitted(flow.follow("a"))) == 5000
    rows = flow.database.connection.row("SELECT count(*) FROM pf_log WHERE kind = 20")
    assert rows is not None
    assert rows[0] < 1000


def test_a_value_is_seen_while_its_node_is_at_work(path: Path) -> None:
    """It does not wait for the end of the step."""
    opened = threading.Event()

    class Slow(Node):
        def exec(self, prep_result: Any) -> None:
            context().emit("first")
            assert opened.wait(60)
            context().emit("second")

    flow = recording(Slow(), path)
    handle = flow.run_background({}, run_id="a")
    successor = flow.follow("a")
    seen: list[object] = []
    for one in successor:
        if isinstance(one.event, Emitted):
            seen.append(one.event.value)
            opened.set()
    assert seen == ["first", "second"]
    handle.wait(60)


def test_values_are_recorded_on_an_event_loop(path: Path) -> None:
    """The loop is not held up by their commits."""

    class Ticks(Node):
        async def exec(self, prep_result: Any) -> None:
            for number in range(3):
                context().emit(number)
                await asyncio.sleep(0)

    flow = recording(Ticks(), path)
    asyncio.run(flow.run_async({}, run_id="a"))
    assert emitted(flow.follow("a")) == [0, 1, 2]


def test_what_cannot_be_stored_is_refused(path: Path) -> None:
    """The node that emits it is told, with why."""

    class Wrong(Node):
        def exec(self, prep_result: Any) -> None:
            context().emit(threading.Lock())

    with pytest.raises(NotStorableError):
        recording(Wrong(), path).run({})


def test_values_of_an_attempt_that_failed_are_void_when_the_next_begins(path: Path) -> None:
    """A follower can tell what counts, whenever it comes."""
    flow = recording(Talk(1, 2), path)
    flow.run({}, run_id="a")
    followed = list(flow.follow("a"))
    assert len(emitted(followed)) == 9
    assert valid(followed) == ["3.0", "3.1", "3.2"]
    kinds = [one.event.kind for one in followed]
    first = kinds.index("emit_void")
    assert kinds[first - 1] == "node_retry"


def test_values_of_an_unfinished_step_are_void_when_it_is_resumed(path: Path) -> None:
    """Its exec is called again, and emits again."""
    flow = recording(Talk(1, 2, 3), path)
    with pytest.raises(ConnectionError):
        flow.run({}, run_id="a")
    ended = list(flow.follow("a"))
    assert valid(ended) == ["3.0", "3.1", "3.2"]
    flow.resume("a")
    rest = list(flow.follow("a", after=ended[-1].number))
    assert valid([*ended, *rest]) == ["4.0", "4.1", "4.2"]


def publish(text: str) -> str:
    """A call that fails the first time."""
    if Streams.is_down:
        Streams.is_down = False
        raise ConnectionError("cut")
    return text


def stream() -> str:
    """A call that emits."""
    for token in ("The", "tide", "turns"):
        context().emit(token)
    return "The tide turns"


class Streams(Node):
    """Makes a call that emits, and one that fails."""

    is_down = True

    def exec(self, prep_result: Any) -> str:
        context().emit("begins")
        return context().call(publish, context().call(stream))


@pytest.mark.parametrize("attempts", [1, 2], ids=["resumed", "tried again"])
def test_values_of_a_call_on_record_count_when_exec_runs_again(path: Path, attempts: int) -> None:
    """The call is not made again, so nobody would emit them again; what came beside it is void."""
    Streams.is_down = True
    node = Streams()
    node.max_retries = attempts
    flow = recording(node, path)
    followed: list[Followed] = []
    if attempts == 1:
        with pytest.raises(ConnectionError):
            flow.run({}, run_id="a")
        followed = list(flow.follow("a"))
        flow.resume("a")
    else:
        flow.run({}, run_id="a")
    followed += flow.follow("a", after=followed[-1].number if followed else 0)
    assert sorted(map(str, valid(followed))) == ["The", "begins", "tide", "turns"]
    assert emitted(followed).count("begins") == 2


def test_values_of_a_call_that_is_made_again_are_void(path: Path) -> None:
    """What exec makes of an answer fails by itself: the call is made again, and emits again."""

    class Checks(Node):
        max_retries = 2
        is_good = False

        def exec(self, prep_result: Any) -> str:
            text = context().call(stream)
            if not self.is_good:
                type(self).is_good = True
                raise ValueError("of no use")
            return text

    flow = recording(Checks(), path)
    flow.run({}, run_id="a")
    followed = list(flow.follow("a"))
    assert valid(followed) == ["The", "tide", "turns"]
    assert len(emitted(followed)) == 6


def test_values_of_a_finished_exec_count_when_post_runs_again(path: Path) -> None:
    """The result is on record, so what led to it stays; what post emitted comes again."""

    class Broken(Talk):
        works = False

        def post(self, store: Store[Any], prep_result: Any, exec_result: str) -> str:
            context().emit(f"post {self.works}")
            if not self.works:
                raise ValueError("broken")
            return "default"

    node = Broken()
    flow = recording(node, path)
    with pytest.raises(ValueError, match="broken"):
        flow.run({}, run_id="a")
    ended = list(flow.follow("a"))
    node.works = True
    flow.resume("a")
    rest = list(flow.follow("a", after=ended[-1].number))
    assert valid([*ended, *rest]) == ["1.0", "1.1", "1.2", "post True"]


def test_a_second_resume_marks_nothing_twice(path: Path) -> None:
    """What was void stays so, and is told once."""
    flow = recording(Talk(1, 2, 3, 4, 5, 6), path)
    after, whole = -1, []
    begins: list[Callable[[], object]] = [
        lambda: flow.run({}, run_id="a"),
        lambda: flow.resume("a"),
    ]
    for begin in begins:
        with pytest.raises(ConnectionError):
            begin()
        whole += list(flow.follow("a", after=after))
        after = whole[-1].number
    flow.resume("a")
    whole += list(flow.follow("a", after=after))
    assert valid(whole) == ["7.0", "7.1", "7.2"]
    void = [one.event.numbers for one in whole if isinstance(one.event, EmittedVoid)]
    assert len([number for numbers in void for number in numbers]) == 18


def test_items_of_a_batch_keep_theirs(path: Path) -> None:
    """Only what the items emit that are worked on again is void."""

    class Items(BatchNode):
        broken = True

        def prep(self, store: Store[Any]) -> list[str]:
            return ["a", "b"]

        def exec(self, prep_result: str) -> str:
            context().emit(prep_result)
            if self.broken and prep_result == "b":
                raise ValueError("broken")
            return prep_result

    node = Items()
    flow = recording(node, path)
    with pytest.raises(ValueError, match="broken"):
        flow.run({}, run_id="a")
    ended = list(flow.follow("a"))
    node.broken = False
    flow.resume("a")
    rest = list(flow.follow("a", after=ended[-1].number))
    assert emitted([*ended, *rest]) == ["a", "b", "b"]
    assert valid([*ended, *rest]) == ["a", "b"]


class Quiet(Talk):
    """Writes nothing."""

    def post(self, store: Store[Any], prep_result: Any, exec_result: str) -> str:
        return "default"


def test_parallel_branches_have_their_own(path: Path) -> None:
    """A branch that fails voids what it has emitted itself, and names where it is."""
    left, right = Quiet(1), Quiet()
    left.name, right.name = "left", "right"
    both = Parallel(left, right, name="both")
    flow = recording(both, path)
    flow.run({}, run_id="a")
    followed = list(flow.follow("a"))
    assert sorted(map(str, valid(followed))) == ["1.0", "1.1", "1.2", "2.0", "2.1", "2.2"]
    places = {(e.node, e.path) for e in (one.event for one in followed) if isinstance(e, Emitted)}
    assert places == {("left", ("both",)), ("right", ("both",))}


class Ask(AskNode[bool]):
    """Emits what it asks about."""

    def prep(self, store: Store[Any]) -> Question[bool]:
        context().emit("draft")
        return Question("Send it?")


def test_what_was_emitted_before_a_question_counts_with_its_answer(path: Path) -> None:
    """Nothing of the node that asked is called again but post."""
    ask = Ask()
    flow = recording(ask, path)
    with pytest.raises(RunPaused):
        flow.run({}, run_id="a")
    paused = list(flow.follow("a", until="pause"))
    assert [one.event.kind for one in paused][2:] == ["emit", "node_ask", "flow_pause"]
    flow.answer("a", ask.reply(True))
    flow.resume("a")
    rest = list(flow.follow("a", after=paused[-1].number))
    assert valid([*paused, *rest]) == ["draft"]


def test_nothing_is_recorded_by_default(path: Path) -> None:
    """Who does not ask for it pays nothing, and may emit what cannot be stored."""

    class Locks(Node):
        def exec(self, prep_result: Any) -> None:
            context().emit(threading.Lock())

    flow = Flow(Locks(), db_path=path)
    flow.run({}, run_id="a")
    assert emitted(flow.follow("a")) == []


def test_recording_needs_a_database() -> None:
    """An option that would have no effect is refused."""
    with pytest.raises(DefinitionError, match="give it a db_path"):
        Flow(Talk(), record_emitted=True).run({})


def test_tables_for_people_show_no_tokens(path: Path) -> None:
    """The events of the database are those of steps: what was emitted is for followers."""
    flow = recording(Talk(1), path)
    flow.run({}, run_id="a")
    kinds = {event["event"] for event in flow.database.get_events("a")}
    assert kinds == {"flow_start", "node_start", "node_retry", "node_end", "flow_end"}
    assert flow.database.load_checkpoint("a", 0)["said"] == "said"
