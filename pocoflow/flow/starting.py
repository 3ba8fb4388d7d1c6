"""The id, the store and the JSON checkpoints of a new run."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

from pocoflow.errors import DefinitionError, UnknownFieldError
from pocoflow.flow.naming import digest
from pocoflow.messages import is_redefined, short
from pocoflow.store.store import Store
from pocoflow.values.copies import copied_model


def new_run_id(flow_name: str) -> tuple[str, str]:
    """A new run id and the run's token of 128 random bits."""
    token = os.urandom(16).hex()
    return f"{flow_name}-{token[:8]}", token


def open_store(given: object, schema: Any, flow_name: str) -> Store:
    """The store of a run, checked against the flow's schema.

    Args:
        given: A store, which is bound to the schema if it has none; a dict, which is updated by
            every write; a model, which is copied; or ``None`` for an empty store.
        schema: The flow's schema, or ``None``.
        flow_name: The name of a store that is created here, and of the flow in messages.

    Raises:
        DefinitionError: It is something else, or a store with another schema.
        InvalidValueError: A value does not fit the schema.
    """
    if type(given) is dict:  # first, as the other checks are slower
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
        kind = type(given)
        try:
            return Store(copied_model(given), schema or kind, flow_name)
        except UnknownFieldError as exc:
            if kind is schema or not (isinstance(schema, type) and issubclass(kind, schema)):
                raise
            more, wanted = kind.__name__, schema.__name__
            advice = f"{more} has more than {wanted}: run the flow with {wanted}(...)"
            exc.args = (f"{exc}; {advice}, or give it schema={more}",)
            raise
    if isinstance(given, MutableMapping):
        return Store.over(cast("dict[str, object]", given), schema, flow_name)
    hint = f"; a stored run of that id goes on with flow.resume({given!r})"
    raise DefinitionError(
        f"flow {flow_name!r} runs on a Store, a dict or an instance of its schema, "
        f"not {short(given)}{hint if isinstance(given, str) else ''}"
    )


@dataclass(slots=True)
class Given:
    """What a new run is given.

    Its store and its digest are created once: the start of a run may be repeated, as when others in
    its transaction fail, and by then the given value is its store.
    """

    value: object
    schema: object
    flow_name: str
    _store: Store | None = None
    _digest: str | None = None

    # No cached_property: up to Python 3.11 its lock is shared by all instances, and validators may
    # run another flow in a thread.

    @property
    def store(self) -> Store:
        """The store of a run that begins with it; raises like :func:`open_store`."""
        if self._store is None:
            self._store = open_store(self.value, self.schema, self.flow_name)
        return self._store

    @property
    def digest(self) -> str:
        """A digest, to compare it with the inputs of a stored run."""
        if self._digest is None:
            self._digest = digest(self.value)
        return self._digest


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


def snapshots(store: Store, folder: Path) -> Callable[[int, str], object]:
    """A function that writes the JSON checkpoint of a step; always in the same folder."""
    folder = folder.absolute()  # a node may change the working directory

    def snapshot(step: int, node: str) -> None:
        safe = re.sub(r"[^A-Za-z0-9_-]+", "_", node)[:80]
        store.snapshot(folder / f"step_{step:03d}_{safe}.json")

    return snapshot
