"""What a node may be set to, and what that means: whether ``exec`` is tried again, and where."""

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
"""Which exceptions of ``exec`` deserve another attempt: classes, or a function that decides."""

GivesExecutor: TypeAlias = Executor | Callable[[], Executor]
"""An executor, or a function that gives one, which is called when one is needed."""

Where: TypeAlias = GivesExecutor | Literal["here"] | None
"""Where ``exec`` is called: by an executor, ``"here"`` in the process of the run, or as the flow
says."""


class StepSettings(TypedDict, total=False):
    """What a node may be set to because it is one step; :class:`Node` explains it."""

    max_retries: int
    retry_delay: float
    backoff: float
    jitter: float
    retry_on: RetryOn
    timeout: float | None
    journal: bool


class ItemSettings(TypedDict, total=False):
    """What a node that works on items may be set to, too; :class:`BatchNode` explains it."""

    concurrency: int
    on_error: Literal["stop", "collect"]


STEP_SETTINGS = tuple(StepSettings.__annotations__)
ITEM_SETTINGS = tuple(ItemSettings.__annotations__)


def unbound(given: Any, parameters: int) -> Any:
    """The function that a method is of, if it has so many parameters, and so no ``self``.

    One that is set on a class becomes a method of its nodes.
    """
    is_method = isinstance(given, MethodType)
    has_none = is_method and len(signature(given.__func__).parameters) == parameters
    return given.__func__ if has_none else given


def where_to(of_node: Where, of_flow: Where) -> GivesExecutor | None:
    """What calls ``exec`` of a node; ``None`` for the process of the run."""
    given = of_flow if of_node is None else of_node
    return None if given is None or given == "here" else cast(GivesExecutor, unbound(given, 0))


def wants_retry(retry_on: RetryOn, exc: Exception) -> bool:
    """Whether an exception has another attempt: a ``Retry``, or by ``retry_on`` of the node.

    A ``DefinitionError`` has none: the code is wrong, and another attempt would only be paid for.
    """
    if isinstance(exc, Retry):
        return True
    if isinstance(exc, DefinitionError):
        return False
    if isinstance(retry_on, (type, tuple)):
        return isinstance(exc, retry_on)
    wanted = unbound(retry_on, 1)(exc)
    check_called(wanted)
    return bool(wanted)


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
