"""How callers identify the runs that they start: by id, run thread and labels."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Literal, NamedTuple, Self, get_args

from pydantic import BaseModel
from typing_extensions import TypedDict

from pocoflow.address import check_name
from pocoflow.errors import DefinitionError, NotStorableError
from pocoflow.flow.arguments import SETTINGS
from pocoflow.messages import refuse_keywords, short
from pocoflow.nodes.base import NodeLike
from pocoflow.nodes.call_checks import belongs
from pocoflow.nodes.resources import Resources

Busy = Literal["refuse", "wait"]
Exists = Literal["refuse", "join"]


class NameKeywords(TypedDict, total=False):
    """What identifies a run that is to start; :meth:`Flow.run` explains it."""

    run_id: str | None
    thread: str | None
    labels: Mapping[str, str] | None
    if_exists: Exists


class RunKeywords(NameKeywords, total=False, closed=True):
    """Arguments of every method that starts a run; :meth:`Flow.run` explains them."""

    if_busy: Busy
    resume_from: NodeLike | None
    resources: Resources | None


class SubmitKeywords(NameKeywords, total=False, closed=True):
    """Arguments of a submitted run; :meth:`Flow.submit` explains them."""

    at: datetime | None
    delay: float | timedelta | None
    most_open: Mapping[str, int] | None


_NOT_NAMING = {"resume_from", "resources"}
"""The arguments that do not identify the run."""


class RunName(NamedTuple):
    """What identifies a run that is to start.

    Attributes:
        run_id: Its id; with ``None`` one is generated.
        thread: The run thread that it belongs to.
        labels: What to find it by.
        joins: Whether an existing run with the id and the inputs is joined.
        if_busy: What to do while a run of the thread is open.
        most_open: How many runs with the same value of a label may be open, by the label's key.
    """

    run_id: str | None = None
    thread: str | None = None
    labels: Mapping[str, str] = MappingProxyType({})
    joins: bool = False
    if_busy: Busy = "refuse"
    most_open: Mapping[str, int] = MappingProxyType({})

    @classmethod
    def of_run(cls, given: RunKeywords, schema: object = None) -> RunName:
        """From the keywords that were given for a run, of a flow with a schema.

        Raises:
            TypeError: There is no such keyword.
            DefinitionError: A value is invalid.
        """
        refuse_unknown("started", given, ("store", *RunKeywords.__annotations__), schema)
        if given.keys() <= _NOT_NAMING:
            return UNNAMED_RUN
        busy = given.get("if_busy", "refuse")
        _check_choice("if_busy", busy, get_args(Busy))
        if busy == "wait" and given.get("thread") is None:
            raise DefinitionError("if_busy='wait' waits for the other runs of thread=, so name one")
        return cls._of(given)._replace(if_busy=busy)

    @classmethod
    def of_submitted(cls, given: SubmitKeywords) -> RunName:
        """From the keywords that were given for a submitted run; raises like :meth:`of_run`."""
        refuse_unknown("submitted", given, ("inputs", *SubmitKeywords.__annotations__))
        most_open = max_open(given.get("most_open"), given.get("labels"))
        return cls._of(given)._replace(most_open=most_open)

    @classmethod
    def _of(cls, given: NameKeywords) -> Self:
        run_id, thread = given.get("run_id"), given.get("thread")
        for what, name in (("run_id", run_id), ("thread", thread)):
            if name is not None:
                check_name(f"{what}=", name)
        labels, exists = given_labels(given.get("labels")), given.get("if_exists", "refuse")
        _check_choice("if_exists", exists, get_args(Exists))
        if exists == "join" and run_id is None:
            raise DefinitionError("if_exists='join' joins the run of run_id=, so give one")
        return cls(run_id, thread, labels, exists == "join")

    def refuse_without_database(self, flow_name: str, records: bool) -> None:
        """Refuse what has no effect without a database.

        Raises:
            DefinitionError: Something of it is given.
        """
        joins = "join" if self.joins else None
        facts = (("thread", self.thread), ("labels", self.labels), ("if_exists", joins))
        for what, given in (*facts, ("record_emitted", records)):
            if given:
                raise DefinitionError(
                    f"flow {flow_name!r} keeps no runs, so {what}={short(given)} has no effect: "
                    "give it a db_path"
                )


def refuse_unknown(
    verb: str, given: Iterable[str], known: Collection[str], schema: object = None
) -> None:
    """Refuse unknown keywords of a run; ``schema`` is that of its store.

    Raises:
        TypeError: There are some; the message says where they belong.
    """
    refuse_keywords(f"a run is {verb} without a", given, known, partial(_belongs, schema=schema))


def _belongs(key: str, *, schema: object) -> str:
    fields = getattr(schema, "model_fields", schema)
    if isinstance(fields, Mapping) and key in fields:
        return f"; it is a field of the store: put it into the dict, run({{{key!r}: ...}})"
    if key == "shared":
        return "; the store is the first argument, which needs no keyword: run(shared)"
    if key in SETTINGS or key == "flow_name":
        return f"; it belongs to the flow: Flow(..., {key}=...)"
    if key == "timeout":
        return "; it belongs to the flow: Flow(..., deadline=...)"
    return belongs(key)


UNNAMED_RUN = RunName()
"""The name of a run of which nothing is given."""


def given_labels(given: object, about: str = "") -> dict[str, str]:
    """The given labels, checked.

    Args:
        given: The labels, or ``None``.
        about: What they belong to, for the beginning of a message.

    Raises:
        DefinitionError: They are not a mapping of names to texts.
    """
    labels = given or {}
    if not isinstance(labels, Mapping):
        raise DefinitionError(
            f"{about}labels={short(labels)}: a dict of texts, as in {{'user': 'ann'}}"
        )
    for key, value in labels.items():
        check_name(f"{about}the key of a label", key)
        check_name(f"{about}label {key!r}", value)
        if "\0" in key + value:
            raise DefinitionError(
                f"{about}label {key!r}: {value!r} holds a NUL character, and no run would be found "
                "by it: leave it out"
            )
    return dict(labels)


def max_open(given: Mapping[str, int] | None, labels: Mapping[str, str] | None) -> dict[str, int]:
    """How many runs may be open, by the keys of the labels of the run that is to start.

    Raises:
        DefinitionError: It is not a number, or the run has no such label.
    """
    counts: object = given or {}
    if not isinstance(counts, Mapping):
        raise DefinitionError(
            f"most_open={short(given)}: a dict of numbers by the keys of labels, as in "
            "most_open={'user': 20}"
        )
    for key, most in counts.items():
        if type(most) is not int or most < 1:
            argument = f"most_open={{{key!r}: {short(most)}}}"
            raise DefinitionError(f"{argument}: a whole number, 1 or more")
        if key not in (labels or {}):
            raise DefinitionError(f"most_open= counts by label {key!r}, which is not in labels=")
    return dict(counts)


def _check_choice(what: str, given: object, choices: tuple[str, ...]) -> None:
    if given not in choices:
        raise DefinitionError(f"{what} is {' or '.join(map(repr, choices))}, not {short(given)}")


def digest(given: object) -> str:
    """A digest of the inputs of a run; empty if they cannot be stored."""
    import hashlib
    import json

    from pocoflow.values import identity

    if isinstance(given, BaseModel):
        given = {name: getattr(given, name) for name in given.model_fields_set}
    values = dict(given) if isinstance(given, Mapping) else {}
    try:
        tree = json.loads(identity(values))
    except NotStorableError:
        return ""
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
