"""What a worker does: it finds the node, calls its ``exec`` and tells all that came of it.

``serve`` is the one function that executors are given. It takes and gives texts, and never raises.
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pocoflow import values as codec
from pocoflow.engine.attempts import tried_here
from pocoflow.engine.calls import ExecCalls
from pocoflow.engine.drivers import drive
from pocoflow.engine.effects import Effects, Steps
from pocoflow.engine.envelopes import ONLY_HERE, Letter, MadeCall, Reply, code_here, here
from pocoflow.engine.executors import text_of
from pocoflow.engine.memory import NULL, NullLedger
from pocoflow.engine.scopes import with_resources
from pocoflow.engine.telling import tell
from pocoflow.errors import BudgetError, ExecutorError, NotStorableError, UnknownClassError
from pocoflow.graph.graph import Vertex
from pocoflow.graph.references import Reference
from pocoflow.graph.step_records import ALONE, Called
from pocoflow.graph.unfinished import Begun, Unfinished
from pocoflow.nodes.base import Node
from pocoflow.nodes.context import Cancellation, RunContext
from pocoflow.nodes.resources import NO_RESOURCES, Resources, declared
from pocoflow.nodes.spending import Account, Amounts, Budget, Spent
from pocoflow.values.exceptions import Thrown
from pocoflow.values.failures import add_note


def serve(letter: Letter, given: str, objects: Resources = NO_RESOURCES) -> Reply:
    """Call ``exec`` of a node in this process.

    Args:
        letter: Which node, and what is to be known of the run.
        given: What ``exec`` is called with, as text.
        objects: Resources that are not opened here, as this is the process of the run.

    Returns:
        What came of it; also what went wrong before or after it.
    """
    try:
        # The node first: its module has the classes of all that was sent.
        node = letter.reference.find({})
        if letter.state:
            node = letter.reference.find(codec.loads(letter.state))
        try:
            value = codec.loads(given)
        except UnknownClassError as exc:
            said = f"what prep of node {letter.node!r} gave cannot be read in a worker"
            raise exc.about(f"{said} ({ONLY_HERE})") from None
        return _Work(letter, _vertex(letter.node, node), objects).do(value)
    except BaseException as exc:  # noqa: BLE001 - raised by the process of the run
        return Reply(error=_thrown(exc))


_MOST = 256

_vertices: dict[int, Vertex] = {}
"""What is known of nodes that were called, as long as these are not too many."""


def _vertex(name: str, node: Node) -> Vertex:
    known = _vertices.get(id(node))
    if known is None or known.node is not node or known.name != name:
        if len(_vertices) >= _MOST:
            _vertices.clear()
        known = _vertices[id(node)] = Vertex(name, node)
    return known


def _differs(code: str, node: Node) -> bool:
    """Whether a node has other code here, as far as one version of Python can tell."""
    mine = code_here(node)
    return mine != code and mine.rpartition(" ")[0] == code.rpartition(" ")[0]


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
                f"the result of call {name} of node {called.address.text!r} cannot be sent back, "
                f"so that the call is made again after a failure: {exc}"
            )
            return
        facts = (called.awaited, called.elapsed, dict(called.spent))
        self.calls.append(MadeCall(called.key, text, *facts))


@dataclass(eq=False)
class _Work:
    """One ``exec`` at work: what its context has of the run."""

    letter: Letter
    vertex: Vertex
    objects: Resources
    emitted: list[str] = field(default_factory=list)
    guard: threading.Lock = field(default_factory=threading.Lock)
    records: list[logging.LogRecord] = field(default_factory=list)
    spent: list[Amounts] = field(default_factory=list)
    ledger: _Collected = field(default_factory=_Collected)
    calls: ExecCalls | None = None
    completed: bool = False

    def __post_init__(self) -> None:
        letter = self.letter
        self.opens = tuple(one for one in declared(self.vertex.node) if one not in self.objects)
        self.context = self._context()
        names = (*letter.path, letter.node)
        around = ((0, names), (0, ()))
        rows = [Spent(*one, amounts) for one, amounts in zip(around, letter.spent, strict=False)]
        self.account = Account(rows)

    def do(self, given: object) -> Reply:
        """Call ``exec``; all that came of it."""
        letter, results, set_here = self.letter, list[object](), list[tuple[int, str]]()
        variables = [_variable(one) for one, _ in letter.variables]

        def steps() -> Steps:
            for variable, (_, value) in zip(variables, letter.variables, strict=True):
                if value:
                    variable.set(codec.loads(value))
            before = copy_context()
            results.append((yield from tried_here(self.vertex, given, inline=True)))
            set_here.extend(self._set_since(before, variables))

        error, text = None, ""
        try:
            with _logging(self), _trace(letter.trace):
                drive(self.context, with_resources(self, steps()) if self.opens else steps())
            if self.calls is not None and self.calls.refused is not None:
                raise self.calls.refused
            said = f"exec of node {letter.node!r} returned what cannot be sent back from a worker"
            text = text_of(results[0], said, "return values")
        except BaseException as exc:  # noqa: BLE001 - raised by the process of the run
            error = exc
        calls = self.calls
        refused = None if calls is None else calls.refused
        return Reply(
            text,
            None if error is None else _thrown(error),
            self.emitted,
            [*map(_facts, self.records)],
            self.ledger.calls,
            () if calls is None else calls.used,
            "" if calls is None else calls.last,
            _differs(letter.code, self.vertex.node),
            error is not None and calls is not None and calls.is_of_call(error),
            refused is not None and refused is error,
            self.spent,
            self.ledger.remarks,
            set_here,
        )

    def _set_since(
        self, before: Context, variables: Sequence[ContextVar[object]]
    ) -> Iterator[tuple[int, str]]:
        """The numbers and values of context variables that were set."""
        for number, variable in enumerate(variables):
            value = variable.get(before)
            if value is before or (variable in before and value is before[variable]):
                continue
            try:
                yield number, codec.dumps(value)
            except NotStorableError as exc:
                name = self.letter.variables[number][0].text
                self.ledger.remark(f"context variable {name} cannot be sent back: {exc}")

    def _context(self) -> RunContext:
        letter = self.letter
        context = RunContext(*letter.run, Cancellation(), self.objects)
        context.node, context.path, context.step = letter.node, letter.path, letter.step
        context.branches, context.count = letter.branches, letter.number
        context.attempt, context.item, context.mark = letter.attempt, letter.item, letter.mark
        context.phase, context.line = "exec", self
        context.group = f"{context.token}-{id(self)}"  # the run itself may be in this process
        if letter.emits:
            context.emitter = self._emit
        return context

    def compute(self, function: Callable[..., object], *arguments: object) -> Effects:
        """Call something that takes a moment, here: no event loop drives this."""
        yield from ()
        return function(*arguments)

    def _emit(self, context: RunContext, value: object) -> None:
        text, letter = codec.dumps(value), self.letter
        with self.guard:  # any thread of the exec may emit
            self.emitted.append(text)
            index = len(self.emitted) - 1
            tell(letter.home, letter.door, letter.emits, index, text)

    # -- what the context asks for ----------------------------------------------------------------

    def calls_of(self, context: RunContext) -> ExecCalls:
        """The journaled calls of the ``exec``."""
        if self.calls is None:
            letter = self.letter
            number = ALONE if letter.item is None else letter.item
            errors = tuple(codec.loads(letter.errors)) if letter.errors else ()
            found = Unfinished(
                items={number: Begun(letter.mark, len(errors), errors)},
                calls={number: letter.calls},
            )
            ledger = self.ledger if letter.keeps else NULL
            refusal = None if letter.limits is None else self._refusal
            facts = (ledger, self.vertex, context)
            self.calls = ExecCalls(*facts, found, (), refusal)
        return self.calls

    def spend(self, context: RunContext, amounts: Amounts) -> None:
        """Keep what was spent outside of calls, to be told with the rest."""
        self.spent.append(dict(amounts))

    def _refusal(self) -> BudgetError | None:
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


def _variable(reference: Reference) -> ContextVar[object]:
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

    def made(*facts: object, **more: object) -> logging.LogRecord:
        record = make(*facts, **more)
        if (work := _at_work.get()) is not None:
            work.records.append(record)
            record.pf_level = record.levelno
            record.levelno = -1  # below that of each handler
        return record

    logging.setLogRecordFactory(made)


def _facts(record: logging.LogRecord) -> dict[str, object]:
    """The attributes of a record, as far as they are plain; its message and traceback as text."""
    facts: dict[str, object] = dict(vars(record))
    with suppress(Exception):  # as of a line that does not fit its arguments
        facts["msg"] = record.getMessage()
    if record.exc_info and record.exc_info[1] is not None:
        facts["exc_text"] = logging.Formatter().formatException(record.exc_info)
    facts["args"] = facts["exc_info"] = None
    facts["levelno"] = facts.pop("pf_level")
    return {name: one if type(one) in _PLAIN else str(one) for name, one in facts.items()}
