"""Other kinds of nodes: those that are awaited, that ask a person, and that work on items."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Any, Generic, Literal, cast

from typing_extensions import TypeVar

from pocoflow.errors import DefinitionError, InvalidValueError
from pocoflow.messages import short
from pocoflow.nodes.base import AnyNode, ExecT, Node, PostT, PrepT
from pocoflow.nodes.edges import DEFAULT_ACTION
from pocoflow.nodes.question import AnswerT, Question, Reply
from pocoflow.store.store import Store

ItemT = TypeVar("ItemT", default=Any)
ResultT = TypeVar("ResultT", default=Any)


class AsyncNode(Node[PrepT, ExecT, PostT]):
    """A node whose work is ``async def exec_async``; ``asyncio.gather`` in it runs in parallel.

    The engine awaits it, in ``flow.run`` on the loop of all synchronous runs and in
    ``flow.run_async`` on the caller's. (``Node`` accepts ``async def exec`` as well; this is the
    documented name.)
    """

    async def exec(self, prep_result: PrepT, /) -> ExecT:
        """Call :meth:`exec_async`."""
        result: object = self.exec_async(prep_result)
        if not isinstance(result, Awaitable):
            raise DefinitionError(
                f"{type(self).__name__}.exec_async returned {type(result).__name__}, which cannot "
                "be awaited: write 'async def exec_async'"
            )
        return cast(ExecT, await result)

    async def exec_async(self, prep_result: PrepT, /) -> ExecT:
        """Do the work, without the store. Returns ``None`` unless overridden."""
        return cast(ExecT, None)


class AskNode(Node[Any, Any, PostT], Generic[AnswerT, PostT]):
    """A node that asks a person: the answer is the result of ``exec``, and ``post`` follows.

    ``prep`` returns the :class:`~pocoflow.question.Question`, or the answer itself if nobody has to
    be asked. The run then pauses and its process may end. ``prep`` is not run again: what it
    returned is stored with the question. ``exec`` may be overridden to do work first; it returns
    the question or the answer.

    ``AskNode[Answer, Post]`` names the type of the answer and the actions of ``post``.
    """

    def exec(
        self, prep_result: Any, /
    ) -> AnswerT | Question[AnswerT] | Awaitable[AnswerT | Question[AnswerT]]:
        """Return the question, or the answer if it is known: by default what ``prep`` returned."""
        return cast(AnswerT, prep_result)

    def post(self, store: Store, prep_result: Any, answer: AnswerT, /) -> PostT | Awaitable[PostT]:
        """Write the answer and return the action; ``"default"`` unless overridden."""
        return cast(PostT, DEFAULT_ACTION)

    def reply(self, answer: AnswerT, /, *, by: str | None = None) -> Reply[AnswerT]:
        """An answer for ``flow.answer(run_id, node.reply(answer))``."""
        return Reply(self, answer, by)


def items_of(node: AnyNode, store: Store, field: str) -> Iterable[Any]:
    """The items of a field that a node works on, one at a time.

    Raises:
        InvalidValueError: The field holds something else.
    """
    items = store[field]
    if not isinstance(items, Iterable) or isinstance(items, (str, bytes)):
        raise InvalidValueError(
            f"node {node.name!r} works on each item of field {field!r}, which holds "
            f"{type(items).__name__}: {short(items)}; it takes a list or another iterable"
        )
    return items


class BatchNode(Node[Any, Any, PostT], Generic[ItemT, ResultT, PostT]):
    """A node whose ``exec`` is called for each item that ``prep`` returns.

    ``prep`` returns an iterable, which is consumed as the items are processed; ``exec`` gets one
    item; ``post`` gets the list of results, in the order of the items. Retries, timeout, fallback
    and journal are per item: after a crash only the items that were not finished are processed.

    Attributes:
        concurrency: How many items are processed at once: as tasks if ``exec`` is ``async``, else
            in threads; or how many an executor has at once. ``1`` processes them sequentially.
        on_error: What happens when an item fails after its last attempt. ``"stop"``: the others are
            asked to stop and its exception ends the step. ``"collect"``: its exception is used as
            its result.
    """

    concurrency: int = 1
    on_error: Literal["stop", "collect"] = "stop"
    is_batch = True

    def prep(self, store: Store, /) -> Iterable[ItemT] | Awaitable[Iterable[ItemT]]:
        """Return the items; none unless overridden."""
        return ()

    def exec(self, item: ItemT, /) -> ResultT | Awaitable[ResultT]:
        """Work on one item, without the store; retried on failure. ``None`` unless overridden."""
        return cast(ResultT, None)

    def post(self, store: Store, items: Any, results: list[ResultT], /) -> PostT | Awaitable[PostT]:
        """Write the results to the store and return the action; ``"default"`` unless overridden."""
        return cast(PostT, DEFAULT_ACTION)

    def exec_fallback(self, item: ItemT, exc: Exception, /) -> ResultT | Awaitable[ResultT]:
        """Return a result for an item whose last attempt failed; raises ``exc`` by default."""
        raise exc
