"""An attempt of ``exec`` by an executor: what goes there, and what is taken over of what comes."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Generator
from typing import Any

from pocoflow.engine.effects import Away, Effect
from pocoflow.engine.envelopes import Letter, Limits, Reply, here, values_of
from pocoflow.engine.line import Line
from pocoflow.errors import DatabaseError
from pocoflow.graph.graph import GraphNode
from pocoflow.nodes.context import RunContext, current
from pocoflow.nodes.settings import GivesExecutor
from pocoflow.nodes.spending import NO_AMOUNTS


def call_away(
    run: Line, place: GraphNode, given: Any, gives: GivesExecutor, inline: bool
) -> Generator[Effect, Any, Any]:
    """One attempt of ``exec`` by an executor: its result, or what it raised.

    What the node has emitted, logged, called and spent is taken over whatever came of it.
    """
    executors, context = run.executors, current.get()
    assert executors is not None  # one of them gave this
    reference, state = executors.reference(place)
    trip = executors.trip(gives, reference, given, _letter(run, place, context, state))
    reply, result, error = yield Away(trip.begin, trip.finish, trip.give_up)
    yield from _take_over(run, context, place, reply, error, inline)
    if error is not None:
        raise error
    for number, value in reply.variables:
        executors.variables[number][0].set(value)
    return result


def _letter(run: Line, place: GraphNode, context: RunContext, state: Any) -> Letter:
    executors, names = run.executors, (*context.path, place.name)
    assert executors is not None
    made = run.calls is not None and run.calls[0] == run.step
    calls = run.calls_of(context) if made or run.unfinished is not None else None
    limits = None
    if run.budget is not None:
        limits = Limits.of(run.budget, run.node_budgets.get(id(place.node), NO_AMOUNTS))
    sums = run.account.rows(names) if run.has_spent else ()
    variables = values_of(one for one, _ in executors.variables)
    return Letter(
        here(),
        (context.run_id, context.flow_name, context.token),
        place.name,
        context.path,
        context.step,
        context.branches,
        context.count,
        context.attempt,
        context.item,
        context.mark,
        {**state},
        run.ledger.keeps or place.node.max_retries > 1,
        context.emitter is not None,
        {} if calls is None else calls.record,
        () if calls is None else calls.errors,
        tuple(one.amounts for one in sums),
        limits,
        logging.getLogger().getEffectiveLevel(),
        [(one, value) for (_, one), value in zip(executors.variables, variables, strict=True)],
        _headers(),
    )


def _headers() -> dict[str, str]:
    """The trace context of OpenTelemetry, if the program uses that."""
    headers: dict[str, str] = {}
    if "opentelemetry" in sys.modules:
        tracing: Any = importlib.import_module("opentelemetry.propagate")
        tracing.inject(headers)
    return headers


def _take_over(
    run: Line,
    context: RunContext,
    place: GraphNode,
    reply: Reply,
    error: BaseException | None,
    inline: bool,
) -> Generator[Effect, Any, None]:
    for facts in reply.records:
        record = logging.makeLogRecord(dict(facts))
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)
    for value in reply.emitted:
        context.emit(value)
    names = (*context.path, place.name)
    for amounts in reply.spent:
        run.account.add(names, amounts)
        run.spend(context, amounts)
    for made in reply.calls:
        if made.spent:
            run.account.add(names, made.spent)
    if reply.used or reply.is_of_call or reply.is_refused:
        calls = run.calls_of(context)
        try:
            for called in calls.bring(context.attempt, reply):
                yield from run.commit(inline, run.ledger.call, run.step, called)
        except DatabaseError as exc:
            calls.fail_to_write(exc)
            raise
        if error is not None:
            calls.note(error, reply)
    for text in reply.remarks:
        run.remark(text)
