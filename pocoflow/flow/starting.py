"""What a run begins or goes on with: what its caller says, its store, its JSON checkpoints."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel
from typing_extensions import TypedDict

from pocoflow.errors import DefinitionError
from pocoflow.messages import is_redefined, short
from pocoflow.store.store import Store

if TYPE_CHECKING:
    from pocoflow.db.due import Limits


class CarryKeywords(TypedDict, total=False):
    """What whoever goes on with a stored run may say; :meth:`Flow.resume` explains them."""

    types: Iterable[type]
    aliases: Mapping[str, type] | None
    flow_was: str | None
    resources: Mapping[Any, object] | None


class ResumeKeywords(TypedDict, total=False, closed=True):
    """What every way to resume a run takes; :meth:`Flow.resume` explains them."""

    changes: Mapping[str, Any] | None
    rename: Mapping[str, str] | None
    types: Iterable[type]
    aliases: Mapping[str, type] | None
    flow_was: str | None
    resources: Mapping[Any, object] | None


@dataclass(frozen=True, slots=True)
class Resuming:
    """What whoever resumes or forks a stored run says of it.

    Attributes:
        changes: Values to set first.
        rename: New names of nodes, by those that they had.
        types: Classes of stored values.
        aliases: Classes that have other names now, by those that are on record.
        names: All names that the flow has and had.
        recovering: Refuse a run that somebody has resumed, or ended, since it was found to be one
            to recover.
        limits: Those of the worker that takes it.
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)
    types: tuple[object, ...] = ()
    aliases: Mapping[str, type] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    recovering: bool = False
    limits: Limits | None = None


@dataclass(frozen=True, slots=True)
class Resumable:
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


def new_run_id(flow_name: str) -> tuple[str, str]:
    """A new run id and the run's token of 128 random bits."""
    token = os.urandom(16).hex()
    return f"{flow_name}-{token[:8]}", token


def open_store(given: object, schema: Any, flow_name: str) -> Store[Any]:
    """The store of a run, checked against the flow's schema.

    Args:
        given: A store, which is bound to the schema if it has none; a dict, which then sees every
            write; a model, which is copied; or ``None`` for an empty store.
        schema: The flow's schema, or ``None``.
        flow_name: The name of a store that is made here, and of the flow in messages.

    Raises:
        DefinitionError: It is something else, or a store of another schema.
        InvalidValueError: A value does not fit the schema.
    """
    if type(given) is dict:  # before the checks that take their time
        return Store.over(given, schema, flow_name)
    if isinstance(given, Store):
        if schema is not None and given.schema is None:
            given.bind(schema)
        elif schema is not None and not _fits(given.schema, schema):
            raise DefinitionError(
                f"flow {flow_name!r} has the schema {short(schema)}, the store it "
                f"was given has {short(given.schema)}{_again(given.schema, schema)}"
            )
        return given
    if given is None:
        return Store({}, schema, flow_name)
    if isinstance(given, BaseModel):
        return Store(given.model_copy(deep=True), schema or type(given), flow_name)
    if isinstance(given, MutableMapping):
        return Store.over(cast("dict[str, Any]", given), schema, flow_name)
    hint = f"; a stored run of that id goes on with flow.resume({given!r})"
    raise DefinitionError(
        f"flow {flow_name!r} runs on a Store, a dict or an instance of its schema, "
        f"not {short(given)}{hint if isinstance(given, str) else ''}"
    )


def _again(given: object, wanted: object) -> str:
    if is_redefined(given, wanted):
        return (
            ": the class was defined again in between, so make both with the same one (in a "
            "notebook, run the cells of both again)"
        )
    return ""


def _fits(given: object, wanted: object) -> bool:
    if isinstance(given, type) and isinstance(wanted, type):
        return issubclass(given, wanted)
    return given == wanted


def snapshots(store: Store[Any], folder: Path) -> Callable[[int, str], object]:
    """A function that writes the JSON checkpoint of a step; its file stays in the folder."""

    def snapshot(step: int, node: str) -> None:
        safe = re.sub(r"[^A-Za-z0-9_-]+", "_", node)[:80]
        store.snapshot(folder / f"step_{step:03d}_{safe}.json")

    return snapshot
