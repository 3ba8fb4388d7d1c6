"""``Flow``: a start node, and the ways to run what can be reached from it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, Generic, Literal, Self, TypeAlias, cast, overload

from pydantic import BaseModel
from typing_extensions import TypeVar

from pocoflow.context import Cancellation, RunContext
from pocoflow.db import WorkflowDB
from pocoflow.db.recorder import RunRecorder
from pocoflow.drivers import drive, drive_async, in_commit_thread
from pocoflow.engine import Run
from pocoflow.errors import DefinitionError
from pocoflow.graph import Graph, GraphNode
from pocoflow.hooks import Hooks
from pocoflow.logging import get_logger
from pocoflow.node import Node, wiring_version
from pocoflow.runner import RunHandle
from pocoflow.schema import make_schema, short
from pocoflow.store import Store

__all__ = ["Flow"]

StateT = TypeVar("StateT", default=Any)

StoreLike: TypeAlias = "Store[StateT] | Store[Any] | StateT | MutableMapping[str, Any] | None"

_log = get_logger("flow")


class Flow(Generic[StateT]):
    """A directed graph of nodes: everything that can be reached from ``start``.

    A flow holds no state of a run: it may run many times, also at once in threads and tasks.

    Args:
        start: Where a run begins.
        flow_name: Label in the database, the log and the monitor; the start node's name by default.
        db_path: SQLite file that keeps every run, its events and checkpoints; or a
            :class:`WorkflowDB` opened with settings of its own. ``None`` keeps nothing.
        checkpoint_dir: Folder for a JSON snapshot after each step, ``step_<NNN>_<Node>.json``.
        max_steps: Steps that one run may take: a guard against loops without a way out.
        schema: A Pydantic model (or a dict of types) that the store of every run is checked with.
        strict: Raise when a node returns an action that has no edge, instead of ending the run.
        run_id: Id of the next runs, for a caller who has ids of his own; made anew for each run
            by default.

    Raises:
        DefinitionError: An argument makes no sense.
    """

    @overload
    def __init__(
        self: Flow[Any],
        start: Node[Any, Any, Any],
        *,
        flow_name: str | None = None,
        db_path: str | os.PathLike[str] | WorkflowDB | None = None,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        max_steps: int = 10_000,
        schema: Mapping[str, Any] | None = None,
        strict: bool = False,
        run_id: str | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        start: Node[Any, Any, Any],
        *,
        schema: type[StateT],
        flow_name: str | None = None,
        db_path: str | os.PathLike[str] | WorkflowDB | None = None,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        max_steps: int = 10_000,
        strict: bool = False,
        run_id: str | None = None,
    ) -> None: ...
    def __init__(
        self,
        start: Node[Any, Any, Any],
        *,
        flow_name: str | None = None,
        db_path: str | os.PathLike[str] | WorkflowDB | None = None,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        max_steps: int = 10_000,
        schema: Any = None,
        strict: bool = False,
        run_id: str | None = None,
    ) -> None:
        given: object = start
        if not isinstance(given, Node):
            hint = ": pass an instance, with ()" if isinstance(start, type) else ""
            raise DefinitionError(f"Flow(start=...) takes a node, not {short(start)}{hint}")
        if type(max_steps) is not int or max_steps < 1:
            raise DefinitionError(f"Flow(max_steps={max_steps!r}): a whole number of at least 1")
        make_schema(schema)
        self.start = start
        self.flow_name = start.name if flow_name is None else flow_name
        self.max_steps = max_steps
        self.schema = schema
        self.strict = strict
        self.run_id = run_id
        self.checkpoint_dir = None if checkpoint_dir is None else Path(checkpoint_dir)
        self._db_path = db_path
        self._database: WorkflowDB | None = None
        self._hooks = Hooks()
        self._graph: tuple[int, Graph] | None = None

    # -- hooks --------------------------------------------------------------------------------

    @overload
    def on(
        self, event: Literal["node_start"], callback: Callable[[str, Store[StateT]], object], /
    ) -> Self: ...
    @overload
    def on(
        self,
        event: Literal["node_end"],
        callback: Callable[[str, str, float, Store[StateT]], object],
        /,
    ) -> Self: ...
    @overload
    def on(
        self,
        event: Literal["node_error"],
        callback: Callable[[str, Exception, Store[StateT]], object],
        /,
    ) -> Self: ...
    @overload
    def on(
        self,
        event: Literal["node_retry"],
        callback: Callable[[str, int, Exception, Store[StateT]], object],
        /,
    ) -> Self: ...
    @overload
    def on(
        self,
        event: Literal["flow_end", "flow_cancelled"],
        callback: Callable[[int, Store[StateT]], object],
        /,
    ) -> Self: ...
    @overload
    def on(
        self,
        event: Literal["flow_error"],
        callback: Callable[[BaseException, Store[StateT]], object],
        /,
    ) -> Self: ...
    @overload
    def on(
        self, event: Literal["flow_start"], callback: Callable[[Store[StateT]], object], /
    ) -> Self: ...
    def on(self, event: str, callback: Callable[..., object], /) -> Self:
        """Tell a callback of an event, after the commit that made it true.

        The events and what the callback gets::

            flow_start      (store)
            node_start      (name, store)
            node_retry      (name, attempt, exc, store)
            node_end        (name, action, elapsed_seconds, store)
            node_error      (name, exc, store)
            flow_end        (steps, store)       the run completed
            flow_error      (exc, store)         the run failed
            flow_cancelled  (steps, store)       the run was cancelled

        An ``Exception`` that a callback raises is logged and changes nothing.

        Returns:
            This flow.

        Raises:
            HookError: There is no such event, or the callback cannot take what it passes.
        """
        self._hooks.add(event, callback)
        return self

    # -- running ------------------------------------------------------------------------------

    def run(
        self, store: StoreLike[StateT] = None, *, resume_from: Node[Any, Any, Any] | None = None
    ) -> Store[StateT]:
        """Run to the end in this thread.

        Args:
            store: A ``Store``; or a dict, which then sees every write; or an instance of the
                schema's model, which is left as it is.
            resume_from: Begin at this node instead of the start.

        Returns:
            The store of the run.

        Raises:
            InvalidValueError: The store does not fit the schema.
            RunExistsError: ``run_id`` is used already.
            MaxStepsError: The run needed more than ``max_steps`` steps.
            Exception: Whatever a node raised, as it was raised.
        """
        run, place = self._prepare(store, resume_from)
        self._begin(run, place)
        drive(run, run.steps(place))
        return run.store

    async def run_async(
        self, store: StoreLike[StateT] = None, *, resume_from: Node[Any, Any, Any] | None = None
    ) -> Store[StateT]:
        """Run to the end on the caller's event loop; like :meth:`run` in everything else.

        Asynchronous phases run as part of the calling task, synchronous ones in threads, and
        commits in a thread of their own, so that the loop stays free. Cancelling the task cancels
        the run.
        """
        run, place = self._prepare(store, resume_from)
        run.inline = False
        if run.recorder is not None:
            await in_commit_thread(lambda: self._begin(run, place))
        await drive_async(run, run.steps(place))
        return run.store

    def run_background(
        self, store: StoreLike[StateT] = None, *, resume_from: Node[Any, Any, Any] | None = None
    ) -> RunHandle[StateT]:
        """Start a run in a daemon thread and return at once; like :meth:`run` in everything else.

        The run is in the database, as ``running``, when this returns. If the interpreter leaves
        before the run has ended, the run ends with it and reads as interrupted.
        """
        run, place = self._prepare(store, resume_from)
        self._begin(run, place)
        return RunHandle(run, run.steps(place), self._database)

    @property
    def graph(self) -> Graph:
        """The graph as it is wired now."""
        version = wiring_version()
        if self._graph is None or self._graph[0] != version or self._graph[1].start is None:
            self._graph = (version, Graph(self.start))
        return self._graph[1]

    def __repr__(self) -> str:
        return f"<Flow {self.flow_name!r} from {self.start.name!r}>"

    # -- the beginning of a run ---------------------------------------------------------------

    def _prepare(
        self, given: StoreLike[StateT], resume_from: Node[Any, Any, Any] | None
    ) -> tuple[Run, GraphNode]:
        graph = self.graph
        place = graph.start if resume_from is None else graph.place(resume_from)
        token = os.urandom(16).hex()
        run_id = self.run_id or f"{self.flow_name}-{token[:8]}"
        run = Run(
            context=RunContext(run_id, self.flow_name, token, Cancellation()),
            store=self._open_store(given),
            max_steps=self.max_steps,
            strict=self.strict,
            inline=True,
            listeners=self._hooks.listeners(),
        )
        database = self._open_database(graph)
        if database is not None:
            run.recorder = RunRecorder(database, run_id, run.store)
        if self.checkpoint_dir is not None:
            run.snapshot = _snapshots(run.store, self.checkpoint_dir)
        return run, place

    def _begin(self, run: Run, place: GraphNode) -> None:
        if run.recorder is not None:
            run.recorder.begin(self.flow_name, run.context.token, place.name)

    def _open_store(self, given: StoreLike[StateT]) -> Store[StateT]:
        if isinstance(given, Store):
            if self.schema is not None and given.schema is None:
                given.bind(self.schema)
            elif self.schema is not None and not _fits(given.schema, self.schema):
                raise DefinitionError(
                    f"flow {self.flow_name!r} has the schema {short(self.schema)}, the store it "
                    f"was given has {short(given.schema)}"
                )
            return cast("Store[StateT]", given)
        name = self.flow_name
        if given is None:
            return Store({}, self.schema, name)
        if isinstance(given, BaseModel):
            copy = given.model_copy(deep=True)
            return cast("Store[StateT]", Store(copy, self.schema or type(given), name))
        if isinstance(given, MutableMapping):
            return Store.over(cast("dict[str, Any]", given), self.schema, name)
        raise DefinitionError(
            f"flow {self.flow_name!r} runs on a Store, a dict or an instance of its schema, "
            f"not {short(given)}"
        )

    def _open_database(self, graph: Graph) -> WorkflowDB | None:
        if self._db_path is not None and self._database is None:
            path = self._db_path
            self._database = path if isinstance(path, WorkflowDB) else WorkflowDB(path)
            for name in graph.namesakes():
                _log.warning(
                    "flow %r has several nodes of the name %r: give them a name= of their own, or "
                    "a run cannot be told where to go on after the code has changed",
                    self.flow_name,
                    name,
                )
        return self._database


def _fits(given: object, wanted: object) -> bool:
    if isinstance(given, type) and isinstance(wanted, type):
        return issubclass(given, wanted)
    return given == wanted


def _snapshots(store: Store[Any], folder: Path) -> Callable[[int, str], object]:
    """A function that writes the JSON checkpoint of a step; its file stays in the folder."""

    def snapshot(step: int, node: str) -> None:
        safe = re.sub(r"[^A-Za-z0-9_-]+", "_", node)[:80]
        store.snapshot(folder / f"step_{step:03d}_{safe}.json")

    return snapshot
