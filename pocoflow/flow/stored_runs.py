"""What a flow does with runs that are stored: resume, recover and fork them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic

from pydantic import BaseModel
from typing_extensions import TypeVar

from pocoflow.engine.run import Run
from pocoflow.errors import DefinitionError, OtherFlowError, RunNotFoundError, RunPaused
from pocoflow.flow.handle import RunHandle
from pocoflow.flow.proving import Validated
from pocoflow.flow.starting import Resuming
from pocoflow.graph.graph import GraphNode
from pocoflow.logging import get_logger
from pocoflow.store.store import Store

if TYPE_CHECKING:
    from pocoflow.db import WorkflowDB
    from pocoflow.db.question_rows import Asked
    from pocoflow.nodes.question import Reply

__all__ = ["Started", "StoredRuns"]

StateT = TypeVar("StateT", bound=BaseModel, default=Any)

_log = get_logger("flow")


@dataclass(frozen=True, slots=True)
class Started:
    """A run that is on record as running, and the node where it begins."""

    run: Run
    place: GraphNode


class StoredRuns(Validated, Generic[StateT]):
    """The part of a flow that goes on with stored runs."""

    formerly: tuple[str, ...]
    aliases: dict[str, type]

    @abstractmethod
    def _go(self, started: Started) -> Store[StateT]: ...

    @abstractmethod
    async def _go_async(self, start: Callable[[], Started], *, shared: bool) -> Store[StateT]: ...

    @abstractmethod
    def _go_background(self, started: Started) -> RunHandle[StateT]: ...

    @abstractmethod
    def _stored(
        self,
        run_id: str,
        resuming: Resuming,
        resources: Mapping[Any, object] | None,
    ) -> Started: ...

    @abstractmethod
    def _stored_in(self) -> WorkflowDB | None: ...

    def resume(
        self,
        run_id: str,
        *,
        changes: Mapping[str, Any] | None = None,
        rename: Mapping[str, str] | None = None,
        types: Iterable[type] = (),
        aliases: Mapping[str, type] | None = None,
        flow_was: str | None = None,
        resources: Mapping[Any, object] | None = None,
    ) -> Store[StateT]:
        """Go on with a stored run: the same run, at the node that comes next, to its end.

        A finished ``exec`` is not called again: its result is taken from the database. ``prep`` of
        the pending node runs on the store of the last checkpoint. If the code has changed since,
        the difference is logged; where it concerns the pending node or a field, it is refused.

        Args:
            run_id: A run that failed, was cancelled or interrupted, or a fork.
            changes: Values to set first, such as those that could not be saved.
            rename: New names of nodes: ``{"Summarise": "Summarize"}``.
            types: Classes of stored values that neither the schema nor a loaded module has.
            aliases: Classes that have other names now, by those that are on record:
                ``{"old_module:Name": Name}``.
            flow_was: The name that the flow had when the run was started, if that was another one;
                ``Flow(formerly=...)`` says so once for all.
            resources: As in :meth:`run`; they are not stored, so they are given again.

        Returns:
            The store of the run.

        Raises:
            RunNotFoundError: There is no such run.
            OtherFlowError: It is of another flow.
            ResumeError: It is completed, or alive here or in another process, or its pending node
                or a field is gone.
            DefinitionError: The flow has no ``db_path``.
            Exception: As :meth:`run`.
        """
        resuming = self._resuming(changes, rename, types, aliases, flow_was)
        return self._go(self._stored(run_id, resuming, resources))

    async def resume_async(
        self,
        run_id: str,
        *,
        changes: Mapping[str, Any] | None = None,
        rename: Mapping[str, str] | None = None,
        types: Iterable[type] = (),
        aliases: Mapping[str, type] | None = None,
        flow_was: str | None = None,
        resources: Mapping[Any, object] | None = None,
    ) -> Store[StateT]:
        """Like :meth:`resume`, on the caller's event loop."""
        resuming = self._resuming(changes, rename, types, aliases, flow_was)
        return await self._go_async(lambda: self._stored(run_id, resuming, resources), shared=False)

    def resume_background(
        self,
        run_id: str,
        *,
        changes: Mapping[str, Any] | None = None,
        rename: Mapping[str, str] | None = None,
        types: Iterable[type] = (),
        aliases: Mapping[str, type] | None = None,
        flow_was: str | None = None,
        resources: Mapping[Any, object] | None = None,
    ) -> RunHandle[StateT]:
        """Like :meth:`resume`, in a daemon thread."""
        resuming = self._resuming(changes, rename, types, aliases, flow_was)
        return self._go_background(self._stored(run_id, resuming, resources))

    def check_resume(
        self,
        run_id: str,
        *,
        changes: Mapping[str, Any] | None = None,
        rename: Mapping[str, str] | None = None,
        types: Iterable[type] = (),
        aliases: Mapping[str, type] | None = None,
        flow_was: str | None = None,
    ) -> None:
        """Find out whether a stored run could go on, and write nothing.

        Reads what :meth:`resume` would read; that the run is not alive, or completed, is not
        looked at.

        Raises:
            RunNotFoundError: There is no such run.
            ResumeError: It is of another flow, or its pending node or a field is gone.
            Exception: Whatever else would keep :meth:`resume` from going on.
        """
        from pocoflow.flow.resume import StoredRun

        database = self._required_database()
        resuming = self._resuming(changes, rename, types, aliases, flow_was)
        self._refuse_other(database, run_id, resuming)
        StoredRun(database, run_id, self.graph, self.schema, resuming).rehearse(self._prove)

    def check_owner(self, run_id: str, *, flow_was: str | None = None) -> None:
        """Refuse a stored run that is of another flow, by the name on its record.

        Whatever acts on a stored run asks this first. Cheap: no value of the run is read.

        Raises:
            RunNotFoundError: There is no such run.
            OtherFlowError: It is of another flow.
        """
        self._refuse_other(self._required_database(), run_id, Resuming(flow_was=flow_was))

    def _refuse_other(self, database: WorkflowDB, run_id: str, resuming: Resuming) -> None:
        was = database.flow_of(run_id)
        names = {self.flow_name, *self.formerly, resuming.flow_was}
        # A program may have written the row without a flow. The name of a flow that was given none
        # is that of its start, which may be renamed.
        if not was or was in names or resuming.rename.get(was) == self.flow_name:
            return
        raise OtherFlowError(
            f"run {run_id!r} is of flow {was!r}, and this is flow {self.flow_name!r}; use the flow "
            "that it is of or, if that was only renamed, say so: "
            f"Flow(..., formerly=({was!r},)), or flow_was={was!r}",
            run_id=run_id,
            flow_name=was,
        )

    def recover(
        self,
        *,
        types: Iterable[type] = (),
        aliases: Mapping[str, type] | None = None,
        flow_was: str | None = None,
        resources: Mapping[Any, object] | None = None,
    ) -> dict[str, Exception | None]:
        """Resume every run of this flow that can go on, one after another.

        These are the runs whose process ended before they did, and the paused ones that have an
        answer, or whose question has passed its deadline. Runs that bear a name that the flow had
        before (``formerly``, ``flow_was``) are its own.

        Returns:
            For each such run, ``None`` if it is completed now, or the exception that ended it,
            ``RunPaused`` if it waits (again). One that fails does not keep the others from going
            on; one that another process has taken, or somebody has ended, meanwhile is left out.
        """
        from pocoflow.db.recorder import TakenError

        outcomes: dict[str, Exception | None] = {}
        resuming = replace(self._resuming(None, None, types, aliases, flow_was), recovering=True)
        names = dict.fromkeys((self.flow_name, *self.formerly, *((flow_was,) if flow_was else ())))
        database = self._required_database()
        for run_id in [run_id for name in names for run_id in database.runs_to_recover(name)]:
            try:
                try:
                    # The earlier ones took their time: others may have gone on with this one.
                    started = self._stored(run_id, resuming, resources)
                except (TakenError, RunNotFoundError) as exc:
                    _log.info("run %r is left to others: %s", run_id, exc)
                    continue
                self._go(started)
            except RunPaused as exc:
                outcomes[run_id] = exc
            except Exception as exc:  # noqa: BLE001 - returned; the others go on
                _log.warning("run %r could not be recovered: %s", run_id, exc)
                outcomes[run_id] = exc
            else:
                outcomes[run_id] = None
        return outcomes

    def fork(
        self,
        run_id: str,
        step: int | None = None,
        changes: Mapping[str, Any] | None = None,
        *,
        types: Iterable[type] = (),
        aliases: Mapping[str, type] | None = None,
        flow_was: str | None = None,
    ) -> str:
        """Make a new run from a checkpoint of another one, which is left as it is.

        Args:
            run_id: The parent; the new run records it.
            step: The checkpoint, from 0; -1 is the store before the first node; by default the
                last one.
            changes: Values to set in the new run's store.
            types: As in :meth:`resume`.
            aliases: As in :meth:`resume`.
            flow_was: As in :meth:`resume`.

        Returns:
            The id of the new run, which is ``queued``: :meth:`resume` runs it.

        Raises:
            RunNotFoundError: There is no such run.
            OtherFlowError: It is of another flow.
            CheckpointNotFoundError: It has no checkpoint of that step.
            ResumeError: No node comes after that step.
        """
        from pocoflow.flow.resume import fork_run

        database = self._required_database()
        resuming = self._resuming(changes, None, types, aliases, flow_was)
        self._refuse_other(database, run_id, resuming)
        return fork_run(database, run_id, step, self.schema, self.flow_name, resuming)

    def answer(
        self,
        run_id: str,
        reply: Reply[Any],
        *,
        question: int | None = None,
        flow_was: str | None = None,
    ) -> list[Asked]:
        """Answer a question of a paused run; :meth:`resume` then goes on with it.

        The run need not have been started by this process. The first answer to a question counts.

        Args:
            run_id: The run.
            reply: ``node.reply(answer)``, where a type checker sees whether the answer fits.
            question: The number of the question; needed if the node has several open ones.
            flow_was: As in :meth:`resume`.

        Returns:
            The questions of the run that are still open; without an answer to them, a resume goes
            on as far as it can and pauses again.

        Raises:
            RunNotFoundError: There is no such run.
            OtherFlowError: It is of another flow.
            AnswerError: The answer does not fit, which leaves the question open; or the node has no
                such open question, or its deadline has passed.
            AnsweredError: It was answered already.
            DefinitionError: The flow has no ``db_path``.
        """
        from pocoflow.flow.answering import answer

        self.check_owner(run_id, flow_was=flow_was)
        return answer(self._required_database(), self.graph, run_id, reply, question)

    def answer_json(
        self,
        run_id: str,
        answer: object,
        *,
        question: int | None = None,
        by: str | None = None,
        flow_was: str | None = None,
    ) -> list[Asked]:
        """Like :meth:`answer`, with a JSON value, such as a web handler gets.

        Args:
            run_id: The run.
            answer: A JSON value, such as ``json.loads`` gives; it is checked by the type of the
                answer.
            question: The number of the question; needed if several are open.
            by: Who answers.
            flow_was: As in :meth:`resume`.
        """
        from pocoflow.flow.answering import answer_json

        self.check_owner(run_id, flow_was=flow_was)

        return answer_json(self._required_database(), self.graph, run_id, answer, question, by)

    def _required_database(self) -> WorkflowDB:
        database = self._stored_in()
        if database is None:
            raise DefinitionError(
                f"flow {self.flow_name!r} keeps no runs: give it a db_path to resume or fork them"
            )
        return database

    def _resuming(
        self,
        changes: Mapping[str, Any] | None,
        rename: Mapping[str, str] | None,
        types: Iterable[type],
        aliases: Mapping[str, type] | None,
        flow_was: str | None,
    ) -> Resuming:
        known = {**self.aliases, **(aliases or {})}
        return Resuming(changes or {}, rename or {}, tuple(types), known, flow_was)
