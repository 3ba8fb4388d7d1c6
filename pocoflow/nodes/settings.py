"""What a node may be set to: retries, timeouts, concurrency; checked, and put to use."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from functools import lru_cache
from inspect import signature
from threading import TIMEOUT_MAX
from types import MethodType
from typing import Any, Literal, TypeAlias, cast

from typing_extensions import TypedDict

from pocoflow.address import check_name
from pocoflow.errors import DefinitionError, Retry
from pocoflow.messages import short
from pocoflow.nodes.resources import declared
from pocoflow.values.callables import check_called, unrun

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


def check_settings(node: Any) -> None:
    """Refuse retry settings and timeouts that make no sense.

    Raises:
        DefinitionError: Names the node, the setting and its value.
    """
    if node.name is not type(node).__name__:
        check_name(f"the name of a node ({type(node).__name__})", node.name)
    if node.is_flow:
        return  # it has no settings
    if type(node.journal) is not bool:
        raise DefinitionError(f"{node.name}.journal is {node.journal!r}: it must be True or False")
    if node.executor is not None and node.executor != "here":
        check_executor(f"{node.name}.executor", node.executor, ", or 'here'")
    if node.is_batch:
        _check_batch(node)
    declared(node)
    attempts, waits = node.max_retries, (node.retry_delay, node.backoff, node.jitter)
    try:
        problem = _known_problem(attempts, *waits, node.timeout, node.retry_on)
    except TypeError:  # a value without a hash
        problem = retry_problem(attempts, *waits, node.timeout, node.retry_on)
    if problem is not None:
        raise DefinitionError(f"{node.name}.{problem}")


def retry_problem(
    max_retries: object,
    retry_delay: Any = 0.0,
    backoff: Any = 1.0,
    jitter: Any = 0.0,
    timeout: object = None,
    retry_on: object = Exception,
) -> str | None:
    """What makes no sense among settings for attempts, and what they must be."""
    if type(max_retries) is not int or max_retries < 1:
        return (
            f"max_retries is {max_retries!r}: it counts the attempts, so it is a whole number of "
            "at least 1 (1 means no retry)"
        )
    for setting, value, least, most in (
        ("retry_delay", retry_delay, 0.0, None),
        ("backoff", backoff, 1.0, None),
        ("jitter", jitter, 0.0, 1.0),
    ):
        numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not numeric or not least <= value <= (TIMEOUT_MAX if most is None else most):
            bound = f"from {least:g} to {most:g}" if most else f"of at least {least:g}"
            return f"{setting} is {value!r}: it must be a finite number {bound}"
    if timeout is not None and not is_time(timeout):
        return (
            f"timeout is {timeout!r}: it must be a number of seconds above 0, or None for no limit"
        )
    kinds = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    if not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds) and (
        isinstance(retry_on, (type, tuple)) or not callable(retry_on)
    ):
        return (
            f"retry_on is {retry_on!r}: it must be an exception class, a "
            "tuple of them, or a function from the exception to a bool"
        )
    kind = None if isinstance(retry_on, (type, tuple)) else unrun(retry_on)
    if kind is not None:
        return f"retry_on is {retry_on!r}, {kind}: it must be a function that returns a bool"
    return None


# Asked for every node, of which there may be thousands of a class; 1 and True are told apart.
_known_problem = lru_cache(maxsize=1024, typed=True)(retry_problem)


def is_time(seconds: object) -> bool:
    """Whether it is a time that something can be limited to: a finite number above 0."""
    numeric = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    return numeric and 0 < cast(float, seconds) <= TIMEOUT_MAX


def check_executor(what: str, given: object, others: str = "") -> None:
    """Refuse what is no executor, and gives none.

    Raises:
        DefinitionError: Names what was given, and what may be.
    """
    problem = isinstance(given, str) or not callable(given)
    if not problem and not isinstance(given, Executor):
        try:
            signature(_plain(given)).bind()
        except TypeError:
            problem = True
        except ValueError:
            pass  # builtins do not tell their parameters
    if problem and not isinstance(given, Executor):
        raise DefinitionError(
            f"{what} is {short(given)}: it must be an executor of concurrent.futures, or a "
            f"function without parameters that gives one{others}"
        )


def _plain(given: Any) -> Any:
    """A function without ``self``, set on a class, has become a method of the node."""
    is_bound = isinstance(given, MethodType) and not signature(given.__func__).parameters
    return given.__func__ if is_bound else given


def where_to(node: Any, of_flow: Where) -> GivesExecutor | None:
    """What calls ``exec`` of a node; ``None`` for the process of the run."""
    given: Where = of_flow if node.executor is None else node.executor
    return None if given is None or given == "here" else cast(GivesExecutor, _plain(given))


def _check_batch(node: Any) -> None:
    if type(node.concurrency) is not int or node.concurrency < 1:
        raise DefinitionError(
            f"{node.name}.concurrency is {node.concurrency!r}: it must be a whole number of at "
            "least 1"
        )
    if node.on_error not in ("stop", "collect"):
        raise DefinitionError(
            f"{node.name}.on_error is {node.on_error!r}: it must be 'stop' or 'collect'"
        )


class NotAwaitableError(DefinitionError):
    """What has to be awaited cannot be; no other attempt would change that."""


def wants_retry(node: Any, exc: Exception) -> bool:
    """Whether an exception has another attempt: a ``Retry``, or by ``retry_on`` of the node."""
    if isinstance(exc, Retry):
        return True
    if isinstance(exc, NotAwaitableError):
        return False
    retry_on = node.retry_on
    if isinstance(retry_on, (type, tuple)):
        return isinstance(exc, retry_on)
    if isinstance(retry_on, MethodType) and len(signature(retry_on.__func__).parameters) == 1:
        # A function without self, set on the class, has become a method of the node.
        wanted = retry_on.__func__(exc)
    else:
        wanted = retry_on(exc)
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
    wait: float = min(delay, TIMEOUT_MAX)
    return wait
