"""What whoever goes on with stored runs says of them, and is told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Self

from typing_extensions import TypedDict

from pocoflow.errors import DefinitionError, OtherFlowError
from pocoflow.messages import short
from pocoflow.nodes.resources import Resources
from pocoflow.store.schema.vouching import check_aliases, types_of

if TYPE_CHECKING:
    from pocoflow.db.due import Limits
    from pocoflow.db.workflow import WorkflowDB


class KnownKeywords(TypedDict, total=False):
    """What reading a stored run may need to know; :meth:`Flow.resume` explains it."""

    types: Iterable[type]
    aliases: Mapping[str, type] | None
    flow_was: str | None


class ChangeKeywords(KnownKeywords, total=False, closed=True):
    """What is changed in a stored run; :meth:`Flow.resume` explains it."""

    changes: Mapping[str, object] | None
    rename: Mapping[str, str] | None


class ResumeKeywords(KnownKeywords, total=False, closed=True):
    """What every way to resume a run takes; :meth:`Flow.resume` explains it."""

    changes: Mapping[str, object] | None
    rename: Mapping[str, str] | None
    resources: Resources | None


class CarryKeywords(KnownKeywords, total=False, closed=True):
    """What whoever goes on with runs as they are may say; :meth:`Flow.resume` explains it."""

    resources: Resources | None


class ForkKeywords(KnownKeywords, total=False, closed=True):
    """What a fork takes; :meth:`Flow.fork` explains it."""

    new_id: str | None
    labels: Mapping[str, str] | None


class Resuming(NamedTuple):
    """What whoever resumes or forks a stored run says of it.

    Attributes:
        changes: Values to set first.
        rename: New names of nodes, by those that they had.
        types: Classes of stored values.
        aliases: Classes that have other names now, by those that are on record.
        names: All names that the flow has and had, that of now first.
        recovering: Refuse a run that somebody has resumed, or ended, since it was found to be one
            to recover.
        limits: Those of the worker that takes it.
    """

    changes: Mapping[str, object] = MappingProxyType({})
    rename: Mapping[str, str] = MappingProxyType({})
    types: tuple[object, ...] = ()
    aliases: Mapping[str, type] = MappingProxyType({})
    names: tuple[str, ...] = ()
    recovering: bool = False
    limits: Limits | None = None

    @classmethod
    def of(
        cls,
        given: KnownKeywords,
        names: tuple[str, ...],
        aliases: Mapping[str, type],
        changes: Mapping[str, object] | None = None,
        rename: Mapping[str, str] | None = None,
    ) -> Self:
        """What is said to a flow that has and had these names, and these aliases of classes.

        Raises:
            DefinitionError: A value makes no sense.
        """
        own, was = given.get("aliases"), given.get("flow_was")
        check_aliases(own)
        _check_texts("changes", changes, "values by key, as in changes={'summary': 'short'}")
        _check_texts("rename", rename, "new names by the old, as in rename={'Rat': 'Rate'}")
        if was is not None and type(was) is not str:
            raise DefinitionError(f"flow_was={short(was)}: the name that the flow had")
        types, known = types_of(given.get("types", ())), {**aliases, **(own or {})}
        return cls(changes or {}, rename or {}, types, known, tuple(filter(None, (*names, was))))

    def by_worker(self, limits: Limits | None) -> Self:
        """The same, of a worker that has these limits, or none.

        Raises:
            DefinitionError: They are no limits.
        """
        from pocoflow.db.due import Limits

        if limits is not None and not isinstance(limits, Limits):
            raise DefinitionError(
                f"limits={short(limits)}: an instance of pocoflow.flow.worker.Limits"
            )
        return self._replace(limits=limits or Limits())

    def refuse_other(self, database: WorkflowDB, run_id: str) -> None:
        """Refuse a run that is of another flow, by the name on its record.

        Raises:
            RunNotFoundError: There is no such run.
            OtherFlowError: It is of another flow.
        """
        was, now = database.flow_of(run_id), self.names[0]
        # A program may have written the row without a flow. The name of a flow that was given none
        # is that of its start, which may be renamed.
        if not was or was in self.names or self.rename.get(was) == now:
            return
        raise OtherFlowError(
            f"run {run_id!r} is of flow {was!r}, and this is flow {now!r}; use the flow that it is "
            f"of or, if that was only renamed, say so: Flow(..., formerly=({was!r},)), or "
            f"flow_was={was!r}",
            run_id=run_id,
            flow_name=was,
        )


class Resumable(NamedTuple):
    """Whether a stored run can go on, and what would change; it is true if it can.

    Attributes:
        run_id: The run.
        node: The node where it would go on, with the flows around it; ``""`` if its code or its
            record does not let it.
        step: The number of its step.
        changed: What has changed in the flow since the run was stored.
        refusal: Why it cannot; what resuming it would raise.
        unsaved: The keys whose values were not saved, or cannot be read: a node that reads one
            fails, unless ``changes=`` sets it.
    """

    run_id: str
    node: str = ""
    step: int = -1
    changed: tuple[str, ...] = ()
    refusal: Exception | None = None
    unsaved: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.refusal is None


def _check_texts(name: str, given: object, how: str) -> None:
    """Refuse what is no mapping from texts, ``None`` excepted, and say ``how`` it is written."""
    if given is not None and not (
        isinstance(given, Mapping) and all(isinstance(one, str) for one in given)
    ):
        raise DefinitionError(f"{name}={short(given)}: {how}")
