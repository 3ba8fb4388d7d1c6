"""What a run begins with: its store, from what the caller gave, and its JSON checkpoints."""

from __future__ import annotations

import atexit
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast
from weakref import WeakKeyDictionary

from pydantic import BaseModel
from typing_extensions import TypedDict

from pocoflow.address import check_name
from pocoflow.errors import DefinitionError
from pocoflow.messages import is_redefined, short
from pocoflow.nodes.edges import users_line
from pocoflow.store.store import Store

if TYPE_CHECKING:
    from pocoflow.db.due import Limits


class _Importing:
    """The target that is being imported, if one is.

    Attributes:
        target: What the user calls it.
        others: The threads that have nothing to do with the import.
        refused: What was said to runs that were to start meanwhile.
        begun: The threads that imported targets have started, and the name of each target.
    """

    target: ClassVar[str | None] = None
    others: ClassVar[frozenset[int | None]] = frozenset()
    refused: ClassVar[list[str]] = []
    begun: ClassVar[WeakKeyDictionary[threading.Thread, str]] = WeakKeyDictionary()


@contextmanager
def importing(target: str) -> Iterator[None]:
    """Refuse every run that begins while a target is imported, or that the import has left behind.

    Left behind is what a thread runs that the import has started, such as a timer, and what it has
    registered to be called at the end of the process.

    Raises:
        DefinitionError: One was to begin, whatever the module made of the refusal.
    """
    own = threading.get_ident()
    others = {one.ident for one in threading.enumerate()} - {own}
    _Importing.target, _Importing.others, _Importing.refused = target, frozenset(others), []
    failed: BaseException | None = None
    try:
        yield
    except BaseException as exc:
        failed = exc
        raise
    finally:
        _Importing.target = None
        for one in threading.enumerate():
            if one.ident != own and one.ident not in others:
                _Importing.begun[one] = target
        atexit.unregister(_leave)
        atexit.register(_leave, target)  # called before what the import has registered
        if _Importing.refused:
            raise DefinitionError(_Importing.refused[0]) from failed


def _leave(target: str) -> None:
    """Refuse what is left, at the end of the process."""
    _Importing.target, _Importing.others = target, frozenset()


def refuse_while_importing(flow_name: str) -> None:
    """Refuse to run a flow while its module is imported only to be looked at.

    Raises:
        DefinitionError: A target is being imported by this thread or by one that started it, or was
            imported by the one that started this.
    """
    target = _Importing.target
    if target is None or threading.get_ident() in _Importing.others:
        target = _Importing.begun.get(threading.current_thread()) if _Importing.begun else None
    if target is None:
        return
    place = users_line()
    where = "" if place is None else f" at {place[0]}:{place[1]}"
    said = (
        f"flow {flow_name!r} is run{where} by the import of {target}, and no node runs then: "
        'put what runs it under if __name__ == "__main__":'
    )
    _Importing.refused.append(said)
    raise DefinitionError(said)


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
        flow_was: The name that the flow had when the run was started.
        names: All names that the flow has and had.
        recovering: Refuse a run that somebody has resumed, or ended, since it was found to be one
            to recover.
        limits: Those of the worker that takes it.
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)
    types: tuple[type, ...] = ()
    aliases: Mapping[str, type] = field(default_factory=dict)
    flow_was: str | None = None
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


def names_before(given: Iterable[str]) -> tuple[str, ...]:
    """The names that a flow had before.

    Raises:
        DefinitionError: They are no collection of names.
    """
    names = () if isinstance(given, str) else tuple(given)
    if isinstance(given, str) or not all(type(name) is str and name for name in names):
        raise DefinitionError(
            f"Flow(formerly={short(given)}): names that the flow had before, as in "
            'formerly=("Old",)'
        )
    for name in names:
        check_name("a name in Flow(formerly=...)", name)
    return names


def check_database(given: object) -> None:
    """Refuse what is no database of a flow.

    Raises:
        DefinitionError: It is neither a path nor a ``WorkflowDB``.
    """
    if isinstance(given, str | os.PathLike):
        is_one = bool(os.fspath(given))
    else:
        from pocoflow.db import WorkflowDB

        is_one = isinstance(given, WorkflowDB)
    if not is_one:
        raise DefinitionError(
            f"Flow(db_path={short(given)}): the path of an SQLite file, or a WorkflowDB"
        )


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
