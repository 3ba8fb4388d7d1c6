"""Finding the node that asked, and checking an answer by its type."""

from __future__ import annotations

from collections.abc import Iterator

from pocoflow.address import plain
from pocoflow.db.question_rows import choose, refuse_closed
from pocoflow.db.workflow import WorkflowDB
from pocoflow.errors import AnswerError, Gap, Remedy
from pocoflow.flow.resume.relocation import renaming
from pocoflow.graph.graph import Graph, Vertex
from pocoflow.messages import short
from pocoflow.nodes.answer_types import AnswerType, UnkeptAnswerError, answer_type
from pocoflow.nodes.base import AnyNode
from pocoflow.nodes.question import Asked, Reply, describe_open


def questions_now(database: WorkflowDB, graph: Graph, run_id: str) -> list[Asked]:
    """The questions of a run as its flow sees them.

    One whose answer its node cannot take any more is open, and asks for what the node takes now.

    Raises:
        RunNotFoundError: There is no such run.
    """
    kinds = _Kinds(graph)
    return [kinds.as_open(one) for one in database.get_questions(run_id)]


def answer(
    database: WorkflowDB, graph: Graph, run_id: str, reply: Reply, question: int | None
) -> list[Asked]:
    """Answer a question of the node that a reply is for; the questions that are still open.

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
    of_node, strange = [], []
    for one in database.get_questions(run_id):
        vertex = asker(graph, one)
        if vertex is not None and vertex.node is reply.node:
            of_node.append(one)
        elif vertex is None and one.is_open:
            strange.append(one)
    if not of_node:
        _refuse_stranger(graph, reply.node, strange)
    kind, kinds = answer_type(reply.node), _Kinds(graph)
    counted = [kinds.as_open(one) for one in of_node]
    one = choose(counted, run_id, question, reply.node.name)
    refuse_closed(one)
    try:
        text = kind.from_python(reply.answer)
    except UnkeptAnswerError as exc:
        raise AnswerError(f"{exc}; flow.answer_json takes the JSON that the type takes") from exc
    unfit = _unfit(of_node, one)
    return database.keep_answer(one, text, reply.by, instead_of=unfit)


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
    kinds = _Kinds(graph)
    known = database.get_questions(run_id)
    counted = [kinds.as_open(one) for one in known]
    one = choose(counted, run_id, question)
    refuse_closed(one)
    kind = kinds.of(one)
    if kind is None:
        raise AnswerError(
            f"question {one.about} of run {run_id!r} was asked by a node that this flow does not "
            f"have: {_WITHOUT_CODE}",
            remedies=_without_code(one),
        )
    text, unfit = kind.from_json(value), _unfit(known, one)
    return database.keep_answer(one, text, by, instead_of=unfit)


class _Kinds:
    """What the nodes of a flow ask for, each looked up once."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._found: dict[int, AnswerType] = {}

    def of(self, one: Asked) -> AnswerType | None:
        """What the node takes that asked a question; ``None`` if the flow does not have it."""
        vertex = asker(self._graph, one)
        if vertex is None:
            return None
        if id(vertex.node) not in self._found:
            self._found[id(vertex.node)] = answer_type(vertex.node)
        return self._found[id(vertex.node)]

    def as_open(self, one: Asked) -> Asked:
        """A question whose answer its node cannot take, as one that has none."""
        kind = None if one.answer is None or one.is_closed else self.of(one)
        if kind is None or one.answer is None:
            return one
        try:
            kind.read(one.answer)
        except AnswerError:
            return one._replace(answer=None, schema=kind.schema)
        return one


def _unfit(known: list[Asked], one: Asked) -> str | None:
    """The answer of a question that counts as open."""
    return next(it.answer for it in known if it.question == one.question)


_WITHOUT_CODE = (
    "the run is of another flow, or the code has changed: WorkflowDB.answer_json takes an answer "
    "by the JSON schema on record, and resume(run_id, rename={old name: new name}) goes on with it"
)


def _without_code(one: Asked) -> Iterator[Remedy]:
    number, run_id = one.question, one.run_id
    yield Remedy(
        f"answer question {number} by the schema",
        f"flow.database.answer_json({run_id!r}, <answer>, question={number})",
        ("answer", run_id, "--question", str(number), "--db", Gap.DB),
    )
    yield renaming(run_id, one.path[-1])


def _refuse_stranger(graph: Graph, node: AnyNode, strange: list[Asked]) -> None:
    """Say why a node has asked nothing, if that is another reason than that it has not asked.

    Raises:
        AnswerError: It is not a node of this flow, or who has asked has another name now.
    """
    if not _has(graph, node):
        raise AnswerError(
            f"node.reply(answer) is of a node {node.name!r} that is not in this flow: call reply "
            "of the very node that the flow was built with, not of another one of its name"
        )
    if strange:
        raise AnswerError(
            f"node {node.name!r} has asked nothing under its name; what is open was asked by nodes "
            f"that this flow does not have, {describe_open(strange)}: {_WITHOUT_CODE}",
            remedies=[remedy for one in strange for remedy in _without_code(one)],
        )


def _has(graph: Graph, node: object) -> bool:
    return any(
        vertex.node is node or any(_has(inner, node) for inner in vertex.within)
        for vertex in graph.nodes.values()
    )


def asker(graph: Graph, one: Asked) -> Vertex | None:
    """The node that asked a question, in the graph as it is now."""
    begun = list(one.branches)
    graphs: tuple[Graph, ...] = (graph,)
    vertex: Vertex | None = None
    for depth, name in enumerate(plain(one.path), 1):
        vertex = next((g.nodes[name] for g in graphs if name in g.nodes), None)
        if vertex is None:
            return None
        graphs = vertex.within
        if vertex.branches and begun and len(graphs) > 1:
            begins = begun[0][depth : depth + 1]
            graphs = tuple(g for g in graphs if (g.start.name,) == begins)
        if vertex.branches:
            begun = begun[1:]
    return vertex
