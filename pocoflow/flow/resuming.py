"""The arguments of a resume or a fork, and the result of ``can_resume``."""

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
    """Arguments for reading a stored run; :meth:`Flow.resume` explains them."""

    types: Iterable[type]
    aliases: Mapping[str, type] | None
    flow_was: str | None


class ChangeKeywords(KnownKeywords, total=False, closed=True):
    """Arguments that change a stored run; :meth:`Flow.resume` explains them."""

    changes: Mapping[str, object] | None
    rename: Mapping[str, str] | None


class ResumeKeywords(KnownKeywords, total=False, closed=True):
    """Arguments of every method that resumes a run; :meth:`Flow.resume` explains them."""

    changes: Mapping[str, object] | None
    rename: Mapping[str, str] | None
    resources: Resources | None


class CarryKeywords(KnownKeywords, total=False, closed=True):
    """Arguments for resuming unchanged runs; :meth:`Flow.resume` explains them."""

    resources: Resources | None


class ForkKeywords(KnownKeywords, total=False, closed=True):
    """Arguments of a fork; :meth:`Flow.fork` explains them."""

    new_id: str | None
    labels: Mapping[str, str] | None


class Resuming(NamedTuple):
    """The checked arguments of a resume or a fork.

    Attributes:
        changes: Values to set first.
        rename: New names of nodes, by their previous names.
        types: Classes of stored values.
        aliases: Classes that were renamed or moved, by their stored names.
        names: All names of the flow, the current name first.
        recovering: Refuse a run that was resumed or ended by another process since it was found
            to be one to recover.
        limits: The limits of the worker that takes it.
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
        """From the arguments of a flow with these names and aliases of classes.

        Raises:
            DefinitionError: A value is invalid.
        """
        more_aliases, was = given.get("aliases"), given.get("flow_was")
        check_aliases(more_aliases)
        _check_texts("changes", changes, "values by key, as in changes={'summary': 'short'}")
        _check_texts("rename", rename, "new names by the old, as in rename={'Rat': 'Rate'}")
        if was is not None and type(was) is not str:
            raise DefinitionError(f"flow_was={short(was)}: the name that the flow had")
        types, known = types_of(given.get("types", ())), {**aliases, **(more_aliases or {})}
        return cls(changes or {}, rename or {}, types, known, tuple(filter(None, (*names, was))))

    def by_worker(self, limits: Limits | None) -> Self:
        """The same for a worker with these limits, or none.

        Raises:
            DefinitionError: They are not limits.
        """
        from pocoflow.db.due import Limits

        if limits is not None and not isinstance(limits, Limits):
            raise DefinitionError(
                f"limits={short(limits)}: an instance of pocoflow.flow.worker.Limits"
            )
        return self._replace(limits=limits or Limits())

    def refuse_other(self, database: WorkflowDB, run_id: str) -> None:
        """Refuse a run of another flow, by the flow name on its record.

        Raises:
            RunNotFoundError: There is no such run.
            OtherFlowError: It is a run of another flow.
        """
        was, now = database.flow_of(run_id), self.names[0]
        # A program may have written the row without a flow. A flow without a name of its own has
        # the name of its start, which may be renamed.
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
    """Whether a stored run can be resumed, and what has changed; true if it can.

    Attributes:
        run_id: The run.
        node: The node where it would continue, with the flows around it; ``""`` if its code or its
            record prevents that.
        step: The number of its step.
        changed: What has changed in the flow since the run was stored.
        refusal: Why it cannot; the exception that resuming it would raise.
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
    """Refuse what is neither ``None`` nor a mapping from texts; ``how`` says how to write it."""
    if given is not None and not (
        isinstance(given, Mapping) and all(isinstance(key, str) for key in given)
    ):
        raise DefinitionError(f"{name}={short(given)}: {how}")
