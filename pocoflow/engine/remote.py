"""What a worker does: it finds the node, calls its ``exec`` and tells all that came of it.

``serve`` is the one function that executors are given. It takes and gives texts, and never raises.
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from pocoflow import values as codec
from pocoflow.engine.attempts import tried_here
from pocoflow.engine.calls import ExecCalls
from pocoflow.engine.drivers import drive
from pocoflow.engine.effects import Effect, Steps
from pocoflow.engine.envelopes import Brought, Letter, MadeCall, Reply, Sent, here, values_of
from pocoflow.engine.memory import NullLedger
from pocoflow.engine.scopes import within
from pocoflow.errors import BudgetError, ExecutorError, NotStorableError
from pocoflow.graph.graph import GraphNode
from pocoflow.graph.references import Reference
from pocoflow.graph.unfinished import ALONE, Begun, Called, Unfinished
from pocoflow.nodes.base import Node
from pocoflow.nodes.context import Cancellation, RunContext
from pocoflow.nodes.resources import declared
from pocoflow.nodes.spending import Account, Amounts, Budget, Spent
from pocoflow.values.exceptions import Thrown
from pocoflow.values.failures import add_note


def serve(sent: Sent) -> Brought:
    """Call ``exec`` of a node in this process.

    Returns:
        What came of it; also what went wrong before or after it.
    """
    reply, result = Reply(), ""
    try:
        node, letter, given = _opened(sent)
        work = _Work(letter, GraphNode(letter.node, node))
        reply, result = work.do(given)
        return Brought(result, codec.dumps(reply))
    except BaseException as exc:  # noqa: BLE001 - raised by the process of the run
        return Brought("", codec.dumps(replace(reply, error=_thrown(exc))))


def _opened(sent: Sent) -> tuple[Node[Any, Any, Any], Letter, Any]:
    # The node first: its module has the classes of all that was sent.
    node = sent.node.find({})
    letter: Letter = codec.loads(sent.letter)
    if letter.state:
        node = sent.node.find(letter.state)
    return node, letter, codec.loads(sent.given)


def _thrown(error: BaseException) -> Thrown:
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith(
        "pocoflow."
    ):
        trace = trace.tb_next
    if trace is not None:
        error = error.with_traceback(trace)  # from the first line of the user's own
    thrown = Thrown.of(error)
    said = f"; of it, {', '.join(thrown.lost)} cannot be sent" if thrown.lost else ""
    where = f"process {os.getpid()} on {socket.gethostname()}"
    add_note(error, f"pocoflow: raised in a worker ({where}){said}:\n{thrown.trace.rstrip()}")
    return Thrown.of(error)


class _Collected(NullLedger):
    """What journaled calls have returned here."""

    keeps = True

    def __init__(self) -> None:
        self.calls: list[MadeCall] = []
        self.remarks: list[str] = []

    def remark(self, text: str) -> None:
        """Keep it, to be told with the rest."""
        self.remarks.append(text)

    def call(self, step: int, called: Called) -> None:
        """Keep it, to be told with the rest."""
        try:
            text = codec.dumps(called.result)
        except NotStorableError as exc:
            name = called.key.rsplit(" ", 2)[0]
            self.remarks.append(
                f"the result of call {name} of node {called.place.text!r} cannot be sent back, so "
                f"that the call is made again after a failure: {exc}"
            )
            return
        facts = (called.awaited, called.elapsed, dict(called.spent))
        self.calls.append(MadeCall(called.key, text, *facts))


_UNKEPT = NullLedger()


@dataclass(eq=False)
class _Work:
    """One ``exec`` at work: what its context has of the run."""

    letter: Letter
    place: GraphNode
    emitted: list[Any] = field(default_factory=list)
    records: list[logging.LogRecord] = field(default_factory=list)
    spent: list[Amounts] = field(default_factory=list)
    ledger: _Collected = field(default_factory=_Collected)
    calls: ExecCalls | None = None
    completed: bool = False

    def __post_init__(self) -> None:
        letter = self.letter
        self.opens = declared(self.place.node)
        self.context = self._context()
        names = (*letter.path, letter.node)
        around = ((0, names), (0, ()))
        rows = [Spent(*one, amounts) for one, amounts in zip(around, letter.spent, strict=False)]
        self.account = Account(rows)

    def do(self, given: Any) -> tuple[Reply, str]:
        """Call ``exec``; all that came of it."""
        letter, results = self.letter, list[Any]()
        variables = [_variable(one) for one, _ in letter.variables]
        before = [value for _, value in letter.variables]
        after = [*before]

        def steps() -> Steps:
            for variable, value in zip(variables, before, strict=True):
                for one in value:
                    variable.set(one)
            results.append((yield from tried_here(self.place, given, inline=True)))
            after[:] = values_of(variables)

        error, text = None, ""
        try:
            with _logging(self), _trace(letter.trace):
                drive(self.context, within(self, steps()) if self.opens else steps())
            if self.calls is not None and self.calls.refused is not None:
                raise self.calls.refused
            text = self._text(results[0])
        except BaseException as exc:  # noqa: BLE001 - raised by the process of the run
            error = exc
        set_here = [
            (number, value[0])
            for number, value in enumerate(after)
            if value and value is not before[number] and self._travels(number, value[0])
        ]
        calls = self.calls
        refused = None if calls is None else calls.refused
        return Reply(
            None if error is None else _thrown(error),
            self.emitted,
            [*map(_facts, self.records)],
            self.ledger.calls,
            () if calls is None else calls.used,
            "" if calls is None else calls.last,
            error is not None and calls is not None and calls.is_of_call(error),
            refused is not None and refused is error,
            self.spent,
            self.ledger.remarks,
            set_here,
        ), text

    def _travels(self, number: int, value: object) -> bool:
        try:
            codec.dumps(value)
        except NotStorableError as exc:
            name = self.letter.variables[number][0].text
            self.ledger.remarks.append(f"context variable {name} cannot be sent back: {exc}")
            return False
        return True

    def _text(self, result: Any) -> str:
        try:
            return codec.dumps(result)
        except NotStorableError as exc:
            said = (
                f"exec of node {self.place.name!r} returned what cannot be sent back from a worker"
            )
            hint = "return values, or call it in the process of the run: executor='here'"
            exc.args = (f"{said}: {exc}; {hint}",)
            raise

    def _context(self) -> RunContext:
        letter = self.letter
        context = RunContext(*letter.run, Cancellation())
        context.node, context.path, context.step = letter.node, letter.path, letter.step
        context.branches, context.count = letter.branches, letter.count
        context.attempt, context.item, context.mark = letter.attempt, letter.item, letter.mark
        context.phase, context.line = "exec", self
        context.group = f"{context.token}-{id(self)}"  # the run itself may be in this process
        if letter.emits:
            context.emitter = self._emit
        return context

    def compute(self, function: Callable[..., Any], *arguments: Any) -> Generator[Effect, Any, Any]:
        """Call something that takes a moment, here: no event loop drives this."""
        yield from ()
        return function(*arguments)

    def _emit(self, context: RunContext, value: object) -> None:
        codec.dumps(value)  # refused where it is emitted
        self.emitted.append(value)

    # -- what the context asks for ----------------------------------------------------------------

    def calls_of(self, context: RunContext) -> ExecCalls:
        """The journaled calls of the ``exec``."""
        if self.calls is None:
            letter = self.letter
            number = ALONE if letter.item is None else letter.item
            found = Unfinished(
                items={number: Begun(letter.mark, len(letter.errors), letter.errors)},
                calls={number: letter.calls},
            )
            ledger = self.ledger if letter.keeps else _UNKEPT
            refusal = None if letter.limits is None else self._refusal
            facts = (ledger, letter.step, self.place, context)
            self.calls = ExecCalls(*facts, found, (), refusal)
        return self.calls

    def spend(self, context: RunContext, amounts: Amounts) -> None:
        """Keep what was spent outside of calls, to be told with the rest."""
        self.spent.append(dict(amounts))

    def _refusal(self, *, calls: bool) -> BudgetError | None:
        limits, letter = self.letter.limits, self.letter
        assert limits is not None
        budgets = [
            Budget(where, most, None if others is None else _Others(others))
            for where, most, others in limits.budgets
        ]
        names = (*letter.path, letter.node)
        return self.account.refusal(letter.run[0], names, budgets, limits.of_node, ())


@dataclass(frozen=True, slots=True)
class _Others:
    amounts: Amounts


# -- context variables and traces -----------------------------------------------------------------


def _variable(reference: Reference) -> ContextVar[Any]:
    """A context variable, in this process.

    Raises:
        ExecutorError: There is none.
    """
    _, found = reference.attribute()
    if not isinstance(found, ContextVar):
        raise ExecutorError(
            f"a worker has no context variable {reference.text}: does it have the same code?"
        )
    return found


@contextmanager
def _trace(headers: Mapping[str, str]) -> Iterator[None]:
    """Let spans of OpenTelemetry be those of the trace that the run is in."""
    if not headers:
        yield
        return
    try:
        tracing: Any = importlib.import_module("opentelemetry.context")
        propagate: Any = importlib.import_module("opentelemetry.propagate")
    except ImportError:
        yield
        return
    token = tracing.attach(propagate.extract(headers))
    try:
        yield
    finally:
        tracing.detach(token)


# -- logging --------------------------------------------------------------------------------------

_at_work: ContextVar[_Work | None] = ContextVar("pocoflow_work", default=None)

_PLAIN = (str, int, float, bool, type(None))


@contextmanager
def _logging(work: _Work) -> Iterator[None]:
    """Keep what is logged for the process of the run, if that is another one."""
    if work.letter.home == here():
        yield
        return
    _prepare()
    root = logging.getLogger()
    if root.level > work.letter.level:
        root.setLevel(work.letter.level)
    token = _at_work.set(work)
    try:
        yield
    finally:
        _at_work.reset(token)


@cache
def _prepare() -> None:
    """Have records made so that those of an ``exec`` are kept, and not handled here.

    They are shown once, where the run is: a worker that was forked has the same handlers.
    """
    make = logging.getLogRecordFactory()

    def made(*facts: Any, **more: Any) -> logging.LogRecord:
        record = make(*facts, **more)
        if (work := _at_work.get()) is not None:
            work.records.append(record)
            record.pf_level = record.levelno
            record.levelno = -1  # below that of each handler
        return record

    logging.setLogRecordFactory(made)


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    """The attributes of a record, as far as they are plain; its message and traceback as text."""
    facts: dict[str, Any] = dict(vars(record))
    with suppress(Exception):  # as of a line that does not fit its arguments
        facts["msg"] = record.getMessage()
    if record.exc_info and record.exc_info[1] is not None:
        facts["exc_text"] = logging.Formatter().formatException(record.exc_info)
    facts["args"] = facts["exc_info"] = None
    facts["levelno"] = facts.pop("pf_level")
    return {name: one if type(one) in _PLAIN else str(one) for name, one in facts.items()}
