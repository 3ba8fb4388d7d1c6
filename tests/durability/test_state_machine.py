"""Runs, crashes, resumes, forks and cancels in any order, against a model in plain Python."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
)

from pocoflow import Flow, Node, RunCancelled, Store, WorkflowDB, context
from pocoflow.db.recorder import RunRecorder
from pocoflow.errors import CheckpointNotFoundError, ResumeError, RunNotFoundError

END_AT = 60


class Bug(Exception):
    """A node fails."""


class Died(BaseException):
    """The process ends: nobody records how."""


# -- the flow --------------------------------------------------------------------------------------


@dataclass
class Disaster:
    """What goes wrong in the next run: at which of its steps, where in it, and how."""

    after: int
    where: str
    how: str


@dataclass
class World:
    """What is outside the database: what was paid, and what is about to go wrong."""

    paid: Counter[str] = field(default_factory=Counter)
    disaster: Disaster | None = None

    def strike(self, where: str) -> None:
        """Let the disaster happen if this is the place."""
        coming = self.disaster
        if coming is None or coming.where != where:
            return
        coming.after -= 1
        if coming.after >= 0:
            return
        self.disaster = None
        if coming.how == "cancel":
            context().cancellation.request()
        else:
            raise Died if coming.how == "crash" else Bug(where)


class Work(Node[int, int, str]):
    """Its phases, with the places where something can go wrong."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def prep(self, store: Store[Any]) -> int:
        store["unfinished"] = "a write of prep"
        self.world.strike("prep")
        return int(store["n"])

    def exec(self, n: int) -> int:
        self.world.strike("exec")
        self.world.paid[context().idempotency_key] += 1
        self.world.strike("paid")
        return result_of(type(self).__name__, n)

    def post(self, store: Store[Any], n: int, result: int) -> str:
        self.world.strike("post")
        del store["unfinished"]
        successor = write(type(self).__name__, store, result)
        self.world.strike("posted")
        return successor


class Plus(Work):
    """Adds."""


class Twice(Work):
    """Doubles, without a journal."""

    journal = False


class Note(Node[None, None, str]):
    """No exec."""

    def post(self, store: Store[Any], prepared: None, result: None) -> str:
        return write("Note", store, 0)


def result_of(node: str, n: int) -> int:
    """What exec returns."""
    return n + 3 if node == "Plus" else n * 2


def write(node: str, store: Any, result: int) -> str:
    """What post writes, and the node that it goes to; ``end`` ends the run."""
    if node == "Note":
        store["notes"][str(store["n"])] = {"seen": True}
        store["n"] += 1
    else:
        store["n"] = result
        store["trail"].append(result)
    if store["n"] >= END_AT:
        return "end"
    return ("Plus", "Twice", "Note")[store["n"] % 3]


def make_flow(world: World, db: WorkflowDB) -> Flow[Any]:
    """Plus, Twice and Note, each of which may lead to each."""
    nodes: dict[str, Node[Any, Any, Any]] = {
        "Plus": Plus(world),
        "Twice": Twice(world),
        "Note": Note(),
    }
    for node in nodes.values():
        for name, target in nodes.items():
            node.then(name, target)
    return Flow(nodes["Plus"], db_path=db, flow_name="machine")


# -- the model -------------------------------------------------------------------------------------


@dataclass(eq=False)
class Modelled:
    """A run as it should be.

    Attributes:
        run_id: Its id.
        stores: The store after each step; the first is the one before it began.
        node: The node that comes next; ``end`` if none does.
        nodes: Where each of the stores goes on.
        status: What it reads as.
        interrupted: Whether its process died.
        journal: The result of exec of the next step, if that is kept.
        paid: How often the call of each step was paid.
        parent: The run and step that it was forked from.
    """

    run_id: str
    stores: list[dict[str, Any]]
    nodes: list[str]
    status: str = "queued"
    interrupted: bool = False
    journal: int | None = None
    paid: Counter[int] = field(default_factory=Counter)
    parent: tuple[str | None, int | None] = (None, None)

    def go_on(self, disaster: Disaster | None, changes: dict[str, Any] | None = None) -> str:
        """Run to the end or to the disaster; how it ended."""
        left = disaster.after if disaster else -1
        changes = changes or {}
        cancelled = False
        while (node := self.nodes[-1]) != "end":
            if cancelled:
                return self._ended("cancelled")
            step = len(self.stores) - 1
            store = {**copy.deepcopy(self.stores[-1]), **changes}
            result = self.journal
            if result is None and node != "Note":
                result = result_of(node, store["n"])
            for where in self._places(node):
                if where == "paid":
                    self.paid[step] += 1
                if where == "post" and node == "Plus":
                    self.journal = result
                if disaster is None or where != disaster.where or left < 0:
                    continue
                left -= 1
                if left < 0 and disaster.how != "cancel":
                    return self._ended("crashed" if disaster.how == "crash" else "failed")
                cancelled = left < 0
            self.nodes.append(write(node, store, result or 0))
            self.stores.append(store)
            self.journal, changes = None, {}
        return self._ended("completed")

    def _places(self, node: str) -> list[str]:
        if node == "Note":
            return []
        return ["prep", *([] if self.journal is not None else ["exec", "paid"]), "post", "posted"]

    def _ended(self, how: str) -> str:
        self.interrupted = how == "crashed"
        self.status = "failed" if self.interrupted else how
        return how


disasters = st.none() | st.builds(
    Disaster,
    st.integers(0, 6),
    st.sampled_from(["prep", "exec", "paid", "post", "posted"]),
    st.sampled_from(["crash", "bug", "cancel"]),
)

ENDINGS = {"crashed": Died, "failed": Bug, "cancelled": RunCancelled}


# -- the machine -----------------------------------------------------------------------------------


class DurableRuns(RuleBasedStateMachine):
    """Does to a database what users and crashes do, and to the model the same."""

    runs = Bundle[Modelled]("runs")

    def __init__(self) -> None:
        super().__init__()
        end = RunRecorder.end

        def leave(recorder: RunRecorder, status: str, error: BaseException, *rest: Any) -> bool:
            if isinstance(error, Died):
                recorder.release()  # as the kernel does
                return True
            return end(recorder, status, error, *rest)

        self.patch = mock.patch.object(RunRecorder, "end", leave)
        self.patch.start()
        self.folder = Path(tempfile.mkdtemp(prefix="pocoflow-machine-"))
        self.world = World()
        self.models: list[Modelled] = []
        self.started = 0

    @initialize()
    def open(self) -> None:
        """A process begins to use the database."""
        self.db = WorkflowDB(self.folder / "runs.db", synchronous="NORMAL")
        self.flow = make_flow(self.world, self.db)

    def teardown(self) -> None:
        """End of the example."""
        self.patch.stop()
        if hasattr(self, "db"):
            self.db.close()
        shutil.rmtree(self.folder)

    def _carry_out(
        self,
        model: Modelled,
        disaster: Disaster | None,
        changes: dict[str, Any],
        work: Callable[[str], Store[Any]],
    ) -> None:
        """Do it, with a disaster on the way, and compare how it ends and what it returns."""
        self.world.disaster = copy.copy(disaster)
        ended = model.go_on(disaster, changes)
        if ended in ENDINGS:
            with pytest.raises(ENDINGS[ended]):
                work(model.run_id)
        else:
            assert work(model.run_id).as_dict() == model.stores[-1]
        self.world.disaster = None

    @rule(target=runs, n=st.integers(0, 9), disaster=disasters)
    def start(self, n: int, disaster: Disaster | None) -> Modelled:
        """A new run."""
        initial = {"n": n, "trail": [], "notes": {}}
        self.started += 1
        model = Modelled(f"run-{self.started}", [copy.deepcopy(initial)], ["Plus"])
        self.models.append(model)
        self.flow.run_id = model.run_id
        self._carry_out(model, disaster, {}, lambda _: self.flow.run(Store(initial)))
        return model

    @rule(model=runs, disaster=disasters, change=st.none() | st.integers(0, 9))
    def resume(self, model: Modelled, disaster: Disaster | None, change: int | None) -> None:
        """Go on with a run, perhaps with another number; a completed one is refused."""
        if model not in self.models:
            with pytest.raises(RunNotFoundError):
                self.flow.resume(model.run_id)
            return
        if model.status == "completed":
            with pytest.raises(ResumeError, match="completed"):
                self.flow.resume(model.run_id)
            return
        changes = {} if change is None else {"n": change}
        self._carry_out(model, disaster, changes, partial(self.flow.resume, changes=changes))

    @rule(
        target=runs,
        parent=runs,
        data=st.data(),
        change=st.none() | st.integers(0, 9),
    )
    def fork(self, parent: Modelled, data: st.DataObject, change: int | None) -> Any:
        """A new run from any step of another one; after its end there is nothing to fork."""
        if parent not in self.models:
            return multiple()
        step = data.draw(st.integers(-1, len(parent.stores)), label="step")
        if step >= len(parent.stores) - 1:
            with pytest.raises(CheckpointNotFoundError):
                self.flow.fork(parent.run_id, step)
            return multiple()
        if parent.nodes[step + 1] == "end":
            with pytest.raises(ResumeError, match="no node comes after"):
                self.flow.fork(parent.run_id, step)
            return multiple()
        store = copy.deepcopy(parent.stores[step + 1])
        changes = {} if change is None else {"n": change}
        run_id = self.flow.fork(parent.run_id, step, changes)
        model = Modelled(run_id, [{**store, **changes}], [parent.nodes[step + 1]])
        model.parent = (parent.run_id, step)
        self.models.append(model)
        return model

    @rule()
    def recover(self) -> None:
        """Every run whose process died is finished, and no other."""
        dead = [model for model in self.models if model.interrupted]
        assert self.flow.recover() == {model.run_id: None for model in dead}
        for model in dead:
            assert model.go_on(None) == "completed"

    @rule(keep=st.integers(2, 9))
    def prune(self, keep: int) -> None:
        """All but the newest runs of those that have ended are removed."""
        gone = [one for one in self.models if one.status != "queued"][:-keep]
        assert self.db.prune(keep=keep) == len(gone)
        self.models = [one for one in self.models if one not in gone]

    @rule()
    def another_process(self) -> None:
        """The database is closed and opened again."""
        self.db.close()
        self.open()

    @invariant()
    def the_database_is_as_the_model(self) -> None:
        """Rows, checkpoints and payments of every run."""
        if not hasattr(self, "db"):
            return
        rows = {row["run_id"]: row for row in self.db.list_runs()}
        assert list(rows) == [model.run_id for model in reversed(self.models)]
        for model in self.models:
            row = rows[model.run_id]
            assert row["status"] == model.status
            assert (row["error_type"] == "Interrupted") == model.interrupted
            assert (row["parent_run_id"], row["parent_step"]) == model.parent
            assert row["total_steps"] == len(model.stores) - 1
            steps = [one["step"] for one in self.db.get_checkpoints(model.run_id)]
            assert steps == list(range(len(model.stores) - 1))
            for step in {-1, len(steps) // 2 - 1, len(steps) - 1}:
                found = self.db.load_checkpoint(model.run_id, step).as_dict()
                assert found == model.stores[step + 1]
            paid = {
                step: times
                for step in range(len(model.stores))
                if (times := self.world.paid[f"{row['token']}-{step}"])
            }
            assert paid == dict(model.paid)


DurableRuns.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

TestDurableRuns = DurableRuns.TestCase
