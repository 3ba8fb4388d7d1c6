"""Journaled calls, as a node makes them through its context; ``engine/calls.py`` executes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, Protocol, Self, TypeVar

from pocoflow.address import check_name
from pocoflow.errors import DefinitionError
from pocoflow.nodes.setting_checks import retry_problem
from pocoflow.nodes.spending import Account, Amounts
from pocoflow.values.failures import Failure

if TYPE_CHECKING:
    from pocoflow.nodes.context import RunContext

P = ParamSpec("P")
R = TypeVar("R")


class Calling(NamedTuple):
    """Settings of a journaled call; created by ``context().calling(...)``.

    Attributes:
        context: The context of the ``exec`` that makes the call.
        timeout: Seconds that an attempt of the call may take, or ``None``.
        max_retries: How many attempts it may take. The delays between them, and which exceptions
            are retried, are settings of the node.
        name: What identifies the call, instead of the name of the function.
    """

    context: RunContext
    timeout: float | None = None
    max_retries: int = 1
    name: str | None = None

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Like :meth:`RunContext.call`, with these settings."""
        context = self.context
        result: R = context.calls.make(context, function, args, kwargs, self)
        return result

    def checked(self) -> Self:
        """These settings, if they are valid.

        Raises:
            DefinitionError: They are not.
        """
        problem = retry_problem(self.max_retries, timeout=self.timeout)
        if problem is not None:
            raise DefinitionError(f"context().calling(...): {problem}")
        if self.name is not None:
            check_name("context().calling(...): name", self.name)
        return self


class Calls(Protocol):
    """The journaled calls of one ``exec``, and its failed attempts."""

    @property
    def errors(self) -> tuple[Failure, ...]:
        """What the earlier attempts raised."""

    def make(
        self,
        context: RunContext,
        function: Callable[..., object],
        arguments: tuple[object, ...],
        keywords: dict[str, object],
        settings: Calling | None,
        /,
    ) -> Any:
        """Make a call, or return its earlier result."""


class InRun(Protocol):
    """What a context uses of its line of execution."""

    @property
    def account(self) -> Account:
        """What the run has spent."""

    def calls_of(self, context: RunContext, /) -> Calls:
        """The journaled calls of the ``exec`` that a context belongs to."""

    def spend(self, context: RunContext, amounts: Amounts, /) -> None:
        """Count what was spent outside of a call, and record it with the next row."""
