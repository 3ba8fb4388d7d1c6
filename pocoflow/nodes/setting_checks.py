"""Checks of the settings of a node, made when the node is built."""

from __future__ import annotations

from concurrent.futures import Executor
from functools import lru_cache
from threading import TIMEOUT_MAX
from typing import Any, TypeGuard

from pocoflow.address import check_name
from pocoflow.errors import DefinitionError
from pocoflow.messages import short
from pocoflow.nodes.resources import declared
from pocoflow.nodes.settings import unbound
from pocoflow.values.callables import unfit


def check_settings(node: Any) -> None:
    """Refuse invalid settings.

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
        check_items(f"{node.name}.", node.concurrency, node.on_error)
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
    """Which of the settings for attempts is invalid, and what it must be."""
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
        if not _is_number(value) or not least <= value <= (TIMEOUT_MAX if most is None else most):
            bound = f"from {least:g} to {most:g}" if most else f"of at least {least:g}"
            return f"{setting} is {value!r}: it must be a finite number {bound}"
    if timeout is not None and not is_time(timeout):
        return (
            f"timeout is {timeout!r}: it must be a number of seconds above 0, or None for no limit"
        )
    if callable(retry_on) and not isinstance(retry_on, (type, tuple)):
        wrong = unfit(unbound(retry_on, 1), "exc")
        return wrong and f"retry_on is to be called with the exception for a bool; {wrong}"
    kinds = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    if not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        return (
            f"retry_on is {retry_on!r}: it must be an exception class, a "
            "tuple of them, or a function from the exception to a bool"
        )
    return None


# Called for every node, and a class may have thousands; typed, as 1 and True differ.
_known_problem = lru_cache(maxsize=1024, typed=True)(retry_problem)


def is_time(seconds: object) -> bool:
    """Whether it is valid as a time limit: a finite number above 0."""
    return _is_number(seconds) and 0 < seconds <= TIMEOUT_MAX


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def check_executor(what: str, given: object, others: str = "") -> None:
    """Refuse what is not an executor, and does not return one.

    Raises:
        DefinitionError: Names what was given, and what is accepted.
    """
    wrong = None if isinstance(given, Executor) else unfit(unbound(given, 0))
    if wrong is not None:
        raise DefinitionError(
            f"{what} is {short(given)}: it must be an executor of concurrent.futures, or a "
            f"function without parameters that gives one{others}; {wrong}"
        )


def check_items(owner: str, concurrency: object, on_error: object) -> None:
    """Refuse invalid settings of a node that works on items; errors begin with ``owner``.

    Raises:
        DefinitionError: Names the setting and its value.
    """
    if type(concurrency) is not int or concurrency < 1:
        raise DefinitionError(
            f"{owner}concurrency is {concurrency!r}: it must be a whole number of at least 1"
        )
    if on_error not in ("stop", "collect"):
        raise DefinitionError(f"{owner}on_error is {on_error!r}: it must be 'stop' or 'collect'")
