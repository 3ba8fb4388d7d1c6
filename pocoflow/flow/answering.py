"""Finding the node that asked, and checking an answer against its type."""

from __future__ import annotations

from collections.abc import Iterator

from pocoflow.address import plain
from pocoflow.db.question_rows import choose, refuse_closed
from pocoflow.db.workflow import WorkflowDB
from pocoflow.errors import AnswerError, Gap, Remedy
from pocoflow.flow.resume.relocation import renaming
from pocoflow.graph.graph import Graph, Vertex
from pocoflow.messages import short
from pocoflow.nodes.answer_types import AnswerType, LossyAnswerError, answer_type
from pocoflow.nodes.base import AnyNode
from pocoflow.nodes.question import Asked, Reply, describe_open


def questions_now(database: WorkflowDB, graph: Graph, run_id: str) -> list[Asked]:
    """The questions of a run as its flow sees them.

    A question whose answer its node no longer accepts is open, with the schema that it has now.

    Raises:
        RunNotFoundError: There is no such run.
    """
    return [_as_open(graph, asked) for asked in database.get_questions(run_id)]


def answer(
    database: WorkflowDB, graph: Graph, run_id: str, reply: Reply, question: int | None
) -> list[Asked]:
    """Answer a question of the node of a reply; the questions that are still open.

    Raises:
        RunNotFoundError: There is no such run.
        AnswerError: The answer does not fit, or the node has no such open question.
    """
    given: object = reply
    if not isinstance(given, Reply):
        raise AnswerError(
            f"flow.answer(run_id, reply) takes node.reply(answer), not {short(given)}; for a JSON "
            "value there is answer_json"
        )
    of_node, of_unknown_nodes = [], []
    for asked in database.get_questions(run_id):
        vertex = asker(graph, asked)
        if vertex is not None and vertex.node is reply.node:
            of_node.append(asked)
        elif vertex is None and asked.is_open:
            of_unknown_nodes.append(asked)
    if not of_node:
        _refuse_unasked(graph, reply.node, of_unknown_nodes)
    asked, outdated = _choose(graph, of_node, run_id, question, reply.node.name)
    try:
        text = answer_type(reply.node).from_python(reply.answer)
    except LossyAnswerError as exc:
        raise AnswerError(f"{exc}; flow.answer_json takes the JSON that the type takes") from exc
    return database.keep_answer(asked, text, reply.by, instead_of=outdated)


def answer_json(
    database: WorkflowDB,
    graph: Graph,
    run_id: str,
    value: object,
    question: int | None,
    by: str | None,
) -> list[Asked]:
    """Answer a question with a JSON value; the questions that are still open.

    Raises:
        RunNotFoundError: There is no such run.
        AnswerError: The answer does not fit, or there is no such open question.
    """
    asked, outdated = _choose(graph, database.get_questions(run_id), run_id, question)
    kind = _type_of(graph, asked)
    if kind is None:
        raise AnswerError(
            f"question {asked.about} of run {run_id!r} was asked by a node that this flow does not "
            f"have: {_WITHOUT_CODE}",
            remedies=_without_code(asked),
        )
    return database.keep_answer(asked, kind.from_json(value), by, instead_of=outdated)


def _type_of(graph: Graph, asked: Asked) -> AnswerType | None:
    """The answer type of the node that asked; ``None`` if the flow does not have the node."""
    vertex = asker(graph, asked)
    return None if vertex is None else answer_type(vertex.node)


def _as_open(graph: Graph, asked: Asked) -> Asked:
    """The question, unanswered if its node does not accept its answer."""
    kind = None if asked.answer is None or asked.is_closed else _type_of(graph, asked)
    if kind is None or asked.answer is None:
        return asked
    try:
        kind.read(asked.answer)
    except AnswerError:
        return asked._replace(answer=None, schema=kind.schema)
    return asked


def _choose(
    graph: Graph, known: list[Asked], run_id: str, question: int | None, node: str | None = None
) -> tuple[Asked, str | None]:
    """The open question that an answer is meant for, and its stored answer, which is replaced."""
    asked = choose([_as_open(graph, it) for it in known], run_id, question, node)
    refuse_closed(asked)
    return asked, next(it.answer for it in known if it.question == asked.question)


_WITHOUT_CODE = (
    "the run is of another flow, or the code has changed: WorkflowDB.answer_json takes an answer "
    "by the JSON schema on record, and resume(run_id, rename={old name: new name}) goes on with it"
)


def _without_code(asked: Asked) -> Iterator[Remedy]:
    number, run_id = asked.question, asked.run_id
    yield Remedy(
        f"answer question {number} by the schema",
        f"flow.database.answer_json({run_id!r}, <answer>, question={number})",
        ("answer", run_id, "--question", str(number), "--db", Gap.DB),
    )
    yield renaming(run_id, asked.path[-1])


def _refuse_unasked(graph: Graph, node: AnyNode, of_unknown_nodes: list[Asked]) -> None:
    """Explain why no question of a node is found, unless it has simply not asked.

    Raises:
        AnswerError: It is not a node of this flow, or the node that asked was renamed.
    """
    if graph.find(node) is None:
        raise AnswerError(
            f"node.reply(answer) is of a node {node.name!r} that is not in this flow: call reply "
            "of the very node that the flow was built with, not of another one of its name"
        )
    if of_unknown_nodes:
        raise AnswerError(
            f"node {node.name!r} has asked nothing under its name; what is open was asked by nodes "
            f"that this flow does not have, {describe_open(of_unknown_nodes)}: {_WITHOUT_CODE}",
            remedies=[remedy for asked in of_unknown_nodes for remedy in _without_code(asked)],
        )


def asker(graph: Graph, asked: Asked) -> Vertex | None:
    """The vertex of the node that asked a question, in the current graph."""
    starts = list(asked.branches)
    graphs: tuple[Graph, ...] = (graph,)
    vertex: Vertex | None = None
    for depth, name in enumerate(plain(asked.path), 1):
        vertex = next((g.nodes[name] for g in graphs if name in g.nodes), None)
        if vertex is None:
            return None
        graphs = vertex.within
        if vertex.branches and starts and len(graphs) > 1:
            start = starts[0][depth : depth + 1]
            graphs = tuple(g for g in graphs if (g.start.name,) == start)
        if vertex.branches:
            starts = starts[1:]
    return vertex
