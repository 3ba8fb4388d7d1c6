"""The runs of one owner: the operations on them, and how they are shown.

Nothing here depends on HTTP except the refusals. All of it reads or writes the database, so it is
called in threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import Annotated, Any, Literal
from urllib.parse import quote
from uuid import uuid4

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException

from pocoflow.db import RunRow
from pocoflow.errors import (
    AnsweredError,
    AnswerError,
    DefinitionError,
    MissingInputError,
    RunExistsError,
    StoreError,
    ThreadBusyError,
    TooManyRunsError,
)
from pocoflow.ext.web.json_fields import Inputs, Outputs
from pocoflow.flow.flow import Flow
from pocoflow.logging import OwnLogger
from pocoflow.nodes.setting_checks import is_time
from pocoflow.values.json_text import as_json, write_json

_log = OwnLogger("web")

OWNER = "owner"
"""The label that holds the owner of a run."""

_PREFIX = f"{OWNER}."
"""The prefix of labels given by an owner, to separate them from those of the program."""

_RETRY_AFTER = 10
"""Seconds after which a client may retry what was refused because of a limit."""

Stands = Literal["queued", "running", "paused", "interrupted", "completed", "failed", "cancelled"]
_OVER = ("completed", "failed", "cancelled")

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._~-]*$", max_length=100)]
# A database server cannot store the character NUL.
Text = Annotated[str, Field(pattern=r"^[^\x00]*$", min_length=1, max_length=200)]


@dataclass(frozen=True, slots=True)
class WebLimits:
    """Limits for one owner, and settings of streams.

    Attributes:
        body: Maximum size of the body of a request, in bytes.
        runs: Maximum number of open runs: queued, running, paused or interrupted, of all flows of
            the database.
        streams: Maximum number of open streams, in one process.
        heartbeat: Seconds without an event after which a stream sends a comment, so that no proxy
            closes it.
        longest: Seconds after which a stream ends, so that the client reconnects, and is
            authenticated again.

    Raises:
        DefinitionError: One is invalid.
    """

    body: int = 256 * 1024
    runs: int = 100
    streams: int = 10
    heartbeat: float = 15.0
    longest: float = 3600.0

    def __post_init__(self) -> None:
        for name in ("body", "runs", "streams"):
            if type(given := getattr(self, name)) is not int or given < 1:
                raise DefinitionError(f"WebLimits({name}={given!r}): a whole number, 1 or more")
        for name in ("heartbeat", "longest"):
            given = getattr(self, name)
            if not is_time(given):
                raise DefinitionError(f"WebLimits({name}={given!r}): a number of seconds above 0")


_OBJECTS = {"dict_type", "model_type", "dataclass_type"}


class Refusal(HTTPException):
    """A request is refused.

    Args:
        status: The number of the HTTP status.
        detail: Why: a text, or the errors with their locations.
        again: Seconds after which a retry may succeed.
    """

    def __init__(self, status: int, detail: Any, again: int | None = None) -> None:
        super().__init__(status, detail, None if again is None else {"Retry-After": str(again)})


@contextmanager
def checking(*location: str, kind: str = "value_error") -> Iterator[None]:
    """Refuse a part of a request that does not fit, without showing its values.

    Args:
        location: Its location.
        kind: The type of an error that is not Pydantic's.
    """
    try:
        yield
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_context=False, include_input=False)
        for error in errors:
            error["loc"] = (*location, *error["loc"])
            if error["type"] in _OBJECTS:
                error["msg"] = "Input should be an object"  # like the message of Pydantic for JSON
        raise Refusal(422, errors) from exc
    except ValueError as exc:
        raise Refusal(422, [{"type": kind, "loc": [*location], "msg": str(exc)}]) from exc


# -- what is sent and received --------------------------------------------------------------------


class Start(BaseModel):
    """The body of a request that starts a run."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: Id | None = None
    thread: Text | None = None
    labels: Annotated[dict[Text, Text], Field(max_length=20)] = {}
    inputs: dict[str, Any] = {}


class Listing(BaseModel):
    """Which runs are listed."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    before: Id | None = None
    status: Stands | None = None
    thread: Text | None = None
    label: list[Annotated[str, Field(pattern=r"^[^\x00]{1,200}?:[^\x00]{1,200}$")]] = []


class OpenQuestion(BaseModel):
    """A question that waits for an answer."""

    model_config = ConfigDict(from_attributes=True)

    question: int
    node: str
    item: int | None
    text: str
    context: Annotated[dict[str, Any], BeforeValidator(as_json)]
    answer_schema: dict[str, Any] = Field(validation_alias="schema")
    deadline: str | None


class Run(BaseModel):
    """The status of a run."""

    id: str
    status: Stands
    node: str | None
    thread: str | None
    labels: dict[str, str]
    started_at: str | None
    ended_at: str | None


class WholeRun(Run):
    """A run with its open questions and, once it is completed, its result."""

    questions: list[OpenQuestion]
    result: dict[str, Any] | None


class Runs(BaseModel):
    """The newest runs first; ``next`` is the value of ``before`` for the next page."""

    runs: list[Run]
    next: str | None


class Wrong(BaseModel):
    """An error at one location in a request."""

    type: str
    loc: list[str | int]
    msg: str


class Problem(BaseModel):
    """Why a request is refused."""

    detail: str | list[Wrong]


@dataclass(frozen=True, slots=True)
class Owned:
    """An owner of runs.

    Attributes:
        name: The name of the owner.
    """

    name: str

    def stored(self, name: str) -> str:
        """An id or a thread of the owner as the database stores it."""
        return f"{quote(self.name, safe='')}/{name}"

    def given(self, stored: str) -> str:
        """The same as the owner has given it."""
        return stored.partition("/")[2]


class OwnedRuns:
    """The runs of a flow, as their owners see them.

    Args:
        flow: The flow.
        limits: The limits for each owner.
    """

    def __init__(self, flow: Flow, limits: WebLimits) -> None:
        self.flow, self.limits = flow, limits
        self.inputs, self.outputs = Inputs(flow), Outputs(flow)

    # -- reading ------------------------------------------------------------------------------

    def row(self, owner: Owned, run_id: str) -> RunRow:
        """The row of a run.

        Raises:
            Refusal: The owner has no such run of this flow.
        """
        row = self.flow.database.get_run(owner.stored(run_id))
        names = (self.flow.flow_name, *self.flow.formerly)
        # The label, too, as a program may have given a run an id that looks like one of an owner.
        if row is None or row["labels"].get(OWNER) != owner.name or row["flow_name"] not in names:
            raise Refusal(404, "there is no such run")
        return row

    def look(self, owner: Owned, run_id: str) -> WholeRun:
        """A run."""
        row = self.row(owner, run_id)
        facts = self._facts(owner, row)
        is_over = facts["status"] in _OVER
        asked = [] if is_over else self.flow.database.get_questions(row["run_id"])
        questions = [OpenQuestion.model_validate(it) for it in asked if it.is_open]
        result = self.outputs.of(row) if row["status"] == "completed" else None
        return WholeRun(**facts, questions=questions, result=result)

    def page(self, owner: Owned, listing: Listing) -> Runs:
        """The newest runs that match."""
        before = None if listing.before is None else self.row(owner, listing.before)["run_no"]
        names = (self.flow.flow_name, *self.flow.formerly)
        by_name = (self._matching(owner, listing, name, before) for name in names)
        newest = merge(*by_name, key=lambda row: -row["run_no"])
        rows = list(islice(newest, listing.limit + 1))
        shown = [Run(**self._facts(owner, row)) for row in rows[: listing.limit]]
        return Runs(runs=shown, next=shown[-1].id if len(rows) > listing.limit else None)

    def _matching(
        self, owner: Owned, listing: Listing, flow_name: str, before: int | None
    ) -> Iterator[RunRow]:
        """The runs under a name of the flow, the newest first."""
        labels = {OWNER: owner.name}
        for label in listing.label:
            key, _, value = label.partition(":")
            labels[_PREFIX + key] = value
        while True:
            rows = self.flow.database.list_runs(
                listing.limit + 1,
                status="failed" if listing.status == "interrupted" else listing.status,
                flow_name=flow_name,
                before=before,
                thread=None if listing.thread is None else owner.stored(listing.thread),
                labels=labels,
            )
            yield from (row for row in rows if listing.status in (None, _status(row)))
            if len(rows) <= listing.limit:
                return
            before = rows[-1]["run_no"]

    def _facts(self, owner: Owned, row: RunRow) -> dict[str, Any]:
        labels = row["labels"].items()
        return {
            "id": owner.given(row["run_id"]),
            "status": _status(row),
            "node": row["current_node"],
            "thread": None if row["thread"] is None else owner.given(row["thread"]),
            "labels": {k.removeprefix(_PREFIX): v for k, v in labels if k.startswith(_PREFIX)},
            "started_at": row["started_at"],
            "ended_at": row["completed_at"],
        }

    def is_known(self, owner: Owned, run_id: str, after: int) -> bool:
        """Whether a run has ended, and has no events after this one."""
        row = self.row(owner, run_id)
        return _status(row) in _OVER and next(self.flow.follow(row["run_id"], after), None) is None

    # -- changing -----------------------------------------------------------------------------

    def start(self, owner: Owned, body: object) -> tuple[WholeRun, bool]:
        """Submit a run, or find it if it was submitted before; and whether it is new.

        Raises:
            Refusal: The request is invalid, or is not possible now.
        """
        with checking("body"):
            given = Start.model_validate(body)
        with checking("body", "inputs"):
            inputs = self.inputs.read(given.inputs)
        run_id = given.id or uuid4().hex
        database, stored = self.flow.database, owner.stored(run_id)
        is_new = database.get_run(stored) is None
        try:
            self.flow.submit(
                inputs,
                run_id=stored,
                if_exists="join",
                thread=None if given.thread is None else owner.stored(given.thread),
                labels={OWNER: owner.name} | {_PREFIX + k: v for k, v in given.labels.items()},
                most_open={OWNER: self.limits.runs},
            )
        except RunExistsError as exc:
            message = f"there is a run {run_id!r} already, which was started with other inputs"
            raise Refusal(409, message) from exc
        except ThreadBusyError as exc:
            other = owner.given(exc.run_id)
            message = f"run {other!r} of the thread is {exc.status}: it has to end first"
            raise Refusal(409, message) from exc
        except TooManyRunsError as exc:
            why = f"{self.limits.runs} runs are open, and more are not taken until some have ended"
            raise Refusal(429, why, _RETRY_AFTER) from exc
        except MissingInputError as exc:
            missing = [
                {"type": "missing", "loc": ["body", "inputs", key], "msg": "Field required"}
                for key in exc.keys
            ]
            raise Refusal(422, missing) from exc
        except StoreError as exc:
            # Its text may contain other values in the store of the thread.
            _log.warning("run %r cannot begin: %s", stored, exc)
            with checking("body", "inputs"):
                raise ValueError(
                    "the inputs do not fit together, or not what the thread holds"
                ) from exc
        return self.look(owner, run_id), is_new

    def answer(self, owner: Owned, run_id: str, question: str, answer: object) -> WholeRun:
        """Answer a question of a run, by its number.

        Raises:
            Refusal: There is no such question, the answer does not fit, or it is too late.
        """
        row = self.row(owner, run_id)
        asked = self.flow.database.get_questions(row["run_id"])
        numbers = {str(it.question): it.question for it in asked}
        if question not in numbers:
            raise Refusal(404, "there is no such question")
        with checking("body", "answer"):
            write_json(answer)
            try:
                number = numbers[question]
                self.flow.answer_json(row["run_id"], answer, question=number, by=owner.name)
            except AnsweredError as exc:
                raise Refusal(409, "the question was answered already") from exc
            except AnswerError as exc:
                if isinstance(exc.__cause__, ValidationError):
                    raise exc.__cause__ from None
                _log.info("run %r: %s", row["run_id"], exc)
                raise Refusal(409, "the question cannot be answered any more") from exc
        return self.look(owner, run_id)

    def cancel(self, owner: Owned, run_id: str) -> WholeRun:
        """Ask a run to stop; a run that has ended is unchanged."""
        self.flow.database.request_cancel(self.row(owner, run_id)["run_id"])
        return self.look(owner, run_id)


def _status(row: RunRow) -> Stands:
    if row["status"] == "failed" and row["error_type"] == "Interrupted":
        return "interrupted"
    return row["status"]
