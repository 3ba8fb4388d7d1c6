"""Schedules: each occurrence is one run, whatever workers do, and what was missed is caught up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from pocoflow import Flow, Node, Store, WorkflowDB, fields, key, node
from pocoflow.errors import DefinitionError, MissingInputError
from pocoflow.flow.scheduling import Schedule
from pocoflow.flow.worker import Worker
from tests.unit.clocks import set_clock

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)

Clock = Callable[[datetime], None]


class Count(Node):
    """A step."""

    def post(self, store: Store[Any], prepared: object, result: object) -> str:
        store["count"] = store.get("count", 0) + 1
        return "default"


@pytest.fixture
def db(tmp_path: Path) -> Iterator[WorkflowDB]:
    """A database."""
    with WorkflowDB(tmp_path / "runs.db") as made:
        yield made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Sets the time; it begins at noon."""

    def move(now: datetime) -> None:
        set_clock(monkeypatch, now.isoformat())

    move(NOON)
    return move


def counting(db: WorkflowDB, *given: Any, **settings: Any) -> Flow[Any]:
    """A flow with a schedule, if its name and expression are given."""
    flow: Flow[Any] = Flow(Count(), db_path=db, flow_name="count")
    return flow.schedule(*given, **settings) if given else flow


def runs(db: WorkflowDB) -> list[str]:
    """The ids of all runs that are completed, the first first."""
    return [run["run_id"] for run in db.list_runs(1000, status="completed")][::-1]


def at(*moments: str) -> list[str]:
    """The ids of the runs of a schedule ``tick`` at some times of the day."""
    return [f"count.tick.20261129T{moment}Z" for moment in moments]


def test_an_occurrence_is_a_run_whose_id_has_its_time(db: WorkflowDB, clock: Clock) -> None:
    """It begins with the inputs, is due at that time, and happens once."""
    flow = counting(db, "tick", "0 * * * *", {"count": 5}, labels={"by": "cron"})
    Worker(flow).run(until_idle=True)
    assert runs(db) == []
    clock(NOON + timedelta(minutes=61))
    for _ in range(2):
        Worker(flow).run(until_idle=True)
    assert runs(db) == at("130000")
    (run,) = db.list_runs(labels={"by": "cron"})
    assert run["due_at"] == "2026-11-29T13:00:00+00:00"
    assert db.handle(run["run_id"]).wait()["count"] == 6


def test_many_workers_make_one_run_of_an_occurrence(
    db: WorkflowDB, clock: Clock, tmp_path: Path
) -> None:
    """Whoever is first records it, and all others find it there."""
    flow = counting(db, "tick", "* * * * * *")
    Worker(flow).run(until_idle=True)
    clock(NOON + timedelta(seconds=30))
    others = [WorkflowDB(tmp_path / "runs.db") for _ in range(4)]
    start = threading.Barrier(len(others), timeout=60)
    made: list[str] = []

    def submit(one: WorkflowDB) -> None:
        start.wait()
        made.extend(flow.using(db_path=one).submit_due())

    threads = [threading.Thread(target=submit, args=(one,)) for one in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in others:
        one.close()
    assert sorted(made) == at(*(f"1200{second:02}" for second in range(1, 31)))


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        (0, ["130000"]),
        (1800, ["123000", "124500", "130000"]),
        (86400, ["121500", "123000", "124500", "130000"]),
    ],
)
def test_what_was_missed_is_caught_up(
    db: WorkflowDB, clock: Clock, catch_up: float, expected: list[str]
) -> None:
    """The last occurrence in any case, and those before it that are not too old."""
    flow = counting(db, "tick", "*/15 * * * *", catch_up=catch_up)
    Worker(flow).run(until_idle=True)
    clock(NOON + timedelta(hours=1))
    Worker(flow).run(until_idle=True)
    assert runs(db) == at(*expected)


def test_only_the_last_of_what_is_long_ago_is_caught_up(db: WorkflowDB, clock: Clock) -> None:
    """A job of the night that was missed for a week runs once."""
    flow = counting(db, "tick", "0 2 * * *")
    Worker(flow).run(until_idle=True)
    clock(NOON + timedelta(days=7))
    Worker(flow).run(until_idle=True)
    assert runs(db) == ["count.tick.20261206T020000Z"]


def test_a_schedule_that_left_the_code_stops(db: WorkflowDB, clock: Clock) -> None:
    """With the next worker; also for workers of the older code that are still there."""
    before, after = counting(db, "tick", "0 * * * *"), counting(db)
    Worker(before).run(until_idle=True)
    Worker(after).run(until_idle=True)
    clock(NOON + timedelta(hours=2))
    assert before.submit_due() == after.submit_due() == []


def test_a_schedule_that_was_changed_begins_anew(db: WorkflowDB, clock: Clock) -> None:
    """What was missed under the old expression is not caught up, and older code leaves it alone."""
    before, after = counting(db, "tick", "0 * * * *"), counting(db, "tick", "30 * * * *")
    Worker(before).run(until_idle=True)
    clock(NOON + timedelta(minutes=75))
    Worker(after).run(until_idle=True)
    clock(NOON + timedelta(minutes=125))
    assert before.submit_due() == []
    assert after.submit_due() == at("133000")


def test_other_inputs_do_not_begin_a_schedule_anew(db: WorkflowDB, clock: Clock) -> None:
    """The next occurrence has them."""
    Worker(counting(db, "tick", "0 * * * *")).run(until_idle=True)
    clock(NOON + timedelta(minutes=75))
    Worker(counting(db, "tick", "0 * * * *", {"count": 1})).run(until_idle=True)
    assert [db.handle(one).wait()["count"] for one in runs(db)] == [2]


def test_a_schedule_goes_on_after_the_clock_was_far_ahead(db: WorkflowDB, clock: Clock) -> None:
    """Its next occurrence, which was computed then, is corrected by the next worker that starts."""
    flow = counting(db, "tick", "0 * * * *")
    for moment in (NOON.replace(year=2036), NOON, NOON + timedelta(hours=1)):
        clock(moment)
        Worker(flow).run(until_idle=True)
    assert runs(db) == at("130000")


def test_an_occurrence_whose_id_is_taken_is_left_out(db: WorkflowDB, clock: Clock) -> None:
    """Somebody has run it by hand; the schedule goes on with the next one."""
    flow = counting(db, "tick", "0 * * * *")
    Worker(flow).run(until_idle=True)
    (taken,) = at("130000")
    flow.submit({"count": 7}, run_id=taken)
    clock(NOON + timedelta(hours=2))
    Worker(flow).run(until_idle=True)
    assert runs(db) == at("130000", "140000")
    assert db.handle(taken).wait()["count"] == 8


def test_a_time_zone_has_its_changes() -> None:
    """At two in the morning in Berlin, whatever the season, and once when there is no such hour."""
    nightly = Schedule("nightly", "0 2 * * *", tz="Europe/Berlin")
    found, moment = [], datetime(2026, 3, 27, 12, tzinfo=UTC)
    for _ in range(4):
        moment = nightly.after(moment)
        found.append(moment.strftime("%d %H:%M"))
    assert found == ["28 01:00", "29 01:00", "30 00:00", "31 00:00"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("night ly", "0 2 * * *"), "a name is of letters"),
        (("", "0 2 * * *"), "a name is of letters"),
        (("tick", "0 25 * * *"), "no cron expression: Bad hour"),
        (("tick", "hourly"), "no cron expression"),
        (("tick", None), "no cron expression"),
        (("tick", "0 0 30 2 *"), "no cron expression"),
        (("tick", "0 0 * * MON#5,L"), "no cron expression"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(
    db: WorkflowDB, given: tuple[Any, ...], said: str
) -> None:
    """Where it is written."""
    with pytest.raises(DefinitionError, match=said):
        counting(db, *given)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tz": "Europe/Atlantis"}, "no time zone"),
        ({"tz": "../../etc/passwd"}, "no time zone"),
        ({"tz": None}, "no time zone"),
        ({"catch_up": -1}, "catch_up"),
        ({"labels": ["user"]}, "a dict of texts"),
        ({"labels": {"user": 1}}, "label 'user' must be a non-empty string"),
        ({"labels": {"": "ann"}}, "the key of a label"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(db: WorkflowDB, settings: Any, said: str) -> None:
    """Where it is written, and with the name of the schedule."""
    with pytest.raises(DefinitionError, match=f"'tick': .*{said}"):
        counting(db, "tick", "0 2 * * *", **settings)


def test_the_name_of_a_schedule_comes_first(db: WorkflowDB) -> None:
    """Who gives the expression first is told so."""
    with pytest.raises(DefinitionError, match=r"first: schedule\('nightly', '0 2 \* \* \*'\)$"):
        counting(db, "0 2 * * *", "nightly")


@pytest.mark.parametrize("name", ["", "a.b", "a b", 3, None], ids=repr)
def test_a_name_of_a_schedule_that_no_worker_would_find_is_refused(
    db: WorkflowDB, name: Any
) -> None:
    """It is a text that can be a part of the ids of runs, and is found as it is stored."""
    with pytest.raises(DefinitionError, match=r"a name is of letters, digits, '-' and '_'$"):
        counting(db, name, "0 2 * * *")


def test_two_schedules_of_a_flow_have_two_names(db: WorkflowDB) -> None:
    """One of the same name is refused; flow.using() takes them along."""
    flow = counting(db, "tick", "0 * * * *")
    with pytest.raises(DefinitionError, match="already"):
        flow.schedule("tick", "5 * * * *")
    other = flow.using()
    other.schedule("tock", "5 * * * *")
    assert (list(flow.schedules), list(other.schedules)) == (["tick"], ["tick", "tock"])


def test_inputs_that_no_run_could_begin_with_are_refused(db: WorkflowDB) -> None:
    """Where the schedule is written: a field that there is not, and what cannot be stored."""

    class Letter(BaseModel):
        to: str = ""

    flow = Flow(Count(), schema=Letter, db_path=db, flow_name="letters")
    with pytest.raises(DefinitionError, match=r"schedule 'bad': .*'too'"):
        flow.schedule("bad", "0 * * * *", {"too": "Ann"})
    with pytest.raises(DefinitionError, match=r"schedule 'tick': .*'lock'"):
        counting(db, "tick", "0 * * * *", {"lock": threading.Lock()})


def test_a_schedule_that_cannot_be_followed_stops_nothing_else(
    db: WorkflowDB, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker names it once, with the reason; the other schedules of its flow go on."""
    flow = Flow(Count(), db_path=db, flow_name="count", inputs=key("count"))
    flow.schedule("bad", "0 * * * *").schedule("good", "0 * * * *", {"count": 1})
    worker = Worker(flow)
    worker.run(until_idle=True)
    clock(NOON + timedelta(hours=1))
    run_id = flow.submit({"count": 7}, run_id="other")
    worker.run(until_idle=True)
    clock(NOON + timedelta(hours=2))
    worker.run(until_idle=True)
    good = [f"count.good.20261129T{hour}0000Z" for hour in (13, 14)]
    assert sorted(runs(db)) == sorted([run_id, *good])
    assert caplog.text.count("schedule 'bad' of flow 'count' has no run") == 1
    assert "MissingInputError" in caplog.text
    with pytest.raises(MissingInputError):
        flow.submit_due()


def test_a_disk_that_is_full_holds_up_the_schedules_alone(
    db: WorkflowDB, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker says so, and makes the run once there is room."""
    flow = counting(db, "tick", "0 * * * *", {"count": 1, "text": "x" * 1_000_000})
    Worker(flow).run(until_idle=True)
    clock(NOON + timedelta(hours=1))
    db.connection.rows("PRAGMA max_page_count = 1")
    assert Worker(flow).run(until_idle=True)
    assert "schedule 'tick' of flow 'count' has no run for 1 seconds" in caplog.text
    assert "the disk is full" in caplog.text
    db.connection.rows("PRAGMA max_page_count = 1000000")
    Worker(flow).run(until_idle=True)
    assert runs(db) == at("130000")


class Letter(BaseModel):
    """What a run of a schedule begins with."""

    to: str
    text: str = "hello"
    sent: bool = False


def letters(*given: Any, **settings: Any) -> Flow[Letter]:
    """A flow with a schedule whose runs are given something."""

    @node(writes=fields(Letter).sent)
    def send(to: str, text: str) -> bool:
        return bool(to and text)

    made = Flow(send, flow_name="letters", schema=Letter, **settings)
    return made.schedule("daily", "0 2 * * *", *given)


@pytest.mark.parametrize("given", [{"to": "Ann"}, Letter(to="Ann"), Store({"to": "Ann"})])
def test_a_schedule_that_gives_what_is_needed_is_proved(given: Any) -> None:
    """In whatever form it is given; a field with a default is there without."""
    assert letters(given).validate() == []
    assert letters(given, inputs=(key("to"), key("text"))).validate() == []


@pytest.mark.parametrize("settings", [{}, {"inputs": (key("to"),)}])
def test_a_schedule_whose_runs_would_be_refused_is_found(settings: Any) -> None:
    """It is an error at the line of the schedule, and stops no run that is given all."""
    flow = letters({"text": "hi"}, **settings)
    (found,) = flow.validate()
    assert (found.code, found.severity, found.file) == ("PF305", "error", __file__)
    assert "schedule 'daily' gives its runs no 'to'" in found.message
    assert flow.run({"to": "Ann"})["sent"]
