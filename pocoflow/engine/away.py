"""An attempt of ``exec`` by an executor: the request, and how its reply is applied to the run."""

from __future__ import annotations

import importlib
import logging
import sys
from concurrent.futures import Executor
from contextvars import ContextVar, copy_context
from dataclasses import replace
from typing import Any

from pocoflow import values as codec
from pocoflow.engine.effects import Away, Effects, Steps
from pocoflow.engine.envelopes import NOWHERE, Reply, Request, as_sent, code_digest, this_process
from pocoflow.engine.executors import RemoteCall, is_local, sendable
from pocoflow.engine.line import Line
from pocoflow.engine.relaying import Relay, endpoint
from pocoflow.errors import DatabaseError
from pocoflow.graph.graph import Vertex
from pocoflow.nodes.context import Cancellation, RunContext, current
from pocoflow.nodes.settings import GivesExecutor
from pocoflow.nodes.spending import NO_AMOUNTS


def call_away(
    run: Line, vertex: Vertex, given: object, gives: GivesExecutor, inline: bool
) -> Effects:
    """One attempt of ``exec`` by an executor: its result, or what it raised.

    What the node emitted, logged, called and spent is applied to the run in either case.
    """
    executors, context = run.plan.executors, current.get()
    assert executors is not None  # gives is one of them
    relay = Relay(context)
    try:
        request = _request(run, vertex, context, relay, gives)
        # Of the resources, those that it was given, and not those that it opened.
        kept = {key: it for key, it in context.resources.items() if key not in run.root.opens}
        remote_call = RemoteCall(executors.serve, gives, request, given, kept)

        def finish(reply: Reply | BaseException) -> tuple[Reply, object, BaseException | None]:
            relay.end()
            return remote_call.finish(reply)

        calls = (remote_call.begin, finish, remote_call.give_up)
        reply, result, error = yield Away(*calls, run.context.cancellation)
    finally:
        relay.forget()
    rest = relay.rest(reply.emitted)
    yield from _apply(run, context, vertex, reply._replace(emitted=rest), error, inline)
    if error is not None:
        raise error
    for number, text in reply.variables:
        executors.variables[number][0].set(codec.loads(text))
    return result


def _request(
    run: Line, vertex: Vertex, context: RunContext, relay: Relay, gives: GivesExecutor
) -> Request:
    executors, names = run.plan.executors, (*context.path, vertex.name)
    assert executors is not None
    has_calls = run.calls is not None and run.calls[0] == run.step
    calls = run.calls_of(context) if has_calls or run.unfinished is not None else None
    sums = run.account.rows(names) if run.has_spent else ()
    reference, state = executors.reference(vertex)
    is_here = isinstance(gives, Executor) and is_local(gives)
    return Request(
        reference,
        code_digest(vertex.node),
        this_process(),
        # What a context refers to here, a worker has of its own.
        replace(context, cancellation=Cancellation(), resources={}, emitter=None, line=None),
        sendable(vertex.name, "what it has of its own", dict(state)) if state else "",
        run.ledger.keeps or vertex.node.max_retries > 1,
        relay.number,
        NOWHERE if is_here or not relay.number else endpoint(),
        {} if calls is None else calls.record,
        "" if calls is None else codec.dumps(list(calls.errors)),
        sums,
        None if run.budget is None else as_sent(run.budget),
        dict(run.plan.node_budgets.get(id(vertex.node), NO_AMOUNTS)),
        logging.getLogger().getEffectiveLevel(),
        [(reference, _value(vertex, variable)) for variable, reference in executors.variables],
        _headers(),
    )


def _value(vertex: Vertex, variable: ContextVar[object]) -> str:
    """The value of a context variable as text; empty if it is not set."""
    variables = copy_context()
    if variable not in variables:
        return ""
    return sendable(vertex.name, f"context variable {variable.name!r}", variables[variable])


def _headers() -> dict[str, str]:
    """The trace context of OpenTelemetry, if the program uses that."""
    headers: dict[str, str] = {}
    if "opentelemetry" in sys.modules:
        tracing: Any = importlib.import_module("opentelemetry.propagate")
        tracing.inject(headers)
    return headers


def _log(reply: Reply) -> None:
    for facts in reply.records:
        record = logging.makeLogRecord(dict(facts))
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)


def _apply(
    run: Line,
    context: RunContext,
    vertex: Vertex,
    reply: Reply,
    error: BaseException | None,
    inline: bool,
) -> Steps:
    _log(reply)
    for text in reply.emitted:
        context.emit(codec.loads(text))
    names = (*context.path, vertex.name)
    for amounts in reply.spent:
        run.account.add(names, amounts)
        run.spend(context, amounts)
    for call in reply.calls:
        if call.spent:
            run.account.add(names, call.spent)
    if reply.used or reply.is_of_call or reply.is_refused:
        calls = run.calls_of(context)
        try:
            for called in calls.merge(context.attempt, reply):
                yield from run.commit(inline, run.ledger.call, run.step, called)
        except DatabaseError as exc:
            calls.broken = exc
            raise
        if error is not None:
            calls.note(error, reply)
    for text in reply.remarks:
        run.remark(text)
