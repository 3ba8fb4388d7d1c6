"""The settings of nodes: whether ``exec`` is retried, how long it may take, where it is called."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from inspect import signature
from threading import TIMEOUT_MAX
from types import MethodType
from typing import Any, Literal, TypeAlias, cast

from typing_extensions import TypedDict

from pocoflow.errors import DefinitionError, Retry
from pocoflow.values.callables import check_called

RetryOn: TypeAlias = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]
"""Which exceptions of ``exec`` are retried: classes, or a function that decides."""

GivesExecutor: TypeAlias = Executor | Callable[[], Executor]
"""An executor, or a function that returns one, which is called when one is needed."""

Where: TypeAlias = GivesExecutor | Literal["here"] | None
"""Where ``exec`` is called: by an executor, ``"here"`` in the process of the run, or as the flow
says."""


class StepSettings(TypedDict, total=False):
    """The settings of a node as one step; :class:`Node` explains them."""

    max_retries: int
    retry_delay: float
    backoff: float
    jitter: float
    retry_on: RetryOn
    timeout: float | None
    journal: bool


class ItemSettings(TypedDict, total=False):
    """The additional settings of a node that works on items; :class:`BatchNode` explains them."""

    concurrency: int
    on_error: Literal["stop", "collect"]


STEP_SETTINGS = tuple(StepSettings.__annotations__)
ITEM_SETTINGS = tuple(ItemSettings.__annotations__)


def unbound(given: Any, parameters: int) -> Any:
    """The function of a method, if it has ``parameters`` parameters, and therefore no ``self``.

    A function that is set on a class becomes a method of its nodes.
    """
    is_method = isinstance(given, MethodType)
    has_none = is_method and len(signature(given.__func__).parameters) == parameters
    return given.__func__ if has_none else given


def where_to(of_node: Where, of_flow: Where) -> GivesExecutor | None:
    """What calls ``exec`` of a node; ``None`` for the process of the run."""
    given = of_flow if of_node is None else of_node
    return None if given is None or given == "here" else cast(GivesExecutor, unbound(given, 0))


def wants_retry(retry_on: RetryOn, exc: Exception) -> bool:
    """Whether an exception is retried: a ``Retry`` always, others by ``retry_on`` of the node.

    A ``DefinitionError`` is not: the code is wrong, and another attempt would only cost money.
    """
    if isinstance(exc, Retry):
        return True
    if isinstance(exc, DefinitionError):
        return False
    if isinstance(retry_on, (type, tuple)):
        return isinstance(exc, retry_on)
    answer = unbound(retry_on, 1)(exc)
    check_called(answer)
    return bool(answer)


def retry_wait(node: Any, attempt: int) -> float:
    """Seconds to wait after the failed ``attempt`` (from 1) before the next one."""
    try:
        delay: float = node.retry_delay * float(node.backoff) ** (attempt - 1)
    except OverflowError:
        delay = TIMEOUT_MAX if node.retry_delay else 0.0
    if node.jitter:
        import random

        delay *= 1 + node.jitter * random.random()
    return min(delay, TIMEOUT_MAX)
