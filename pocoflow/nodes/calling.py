"""Journaled calls, as a node makes them by its context; ``engine/calls.py`` carries them out."""

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
    """Settings of a journaled call; ``context().calling(...)`` makes it.

    Attributes:
        context: That of the ``exec`` which makes the call.
        timeout: Seconds that an attempt of the call may take, or ``None``.
        max_retries: How many attempts it may take. The waits between them, and which exceptions
            deserve another one, are those of the node.
        name: What the call is known by, in the place of the name of the function.
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
        """The same, if it makes sense.

        Raises:
            DefinitionError: It does not.
        """
        problem = retry_problem(self.max_retries, timeout=self.timeout)
        if problem is not None:
            raise DefinitionError(f"context().calling(...): {problem}")
        if self.name is not None:
            check_name("context().calling(...): name", self.name)
        return self


class Calls(Protocol):
    """The journaled calls of one ``exec``, and the attempts of it that have failed."""

    @property
    def errors(self) -> tuple[Failure, ...]:
        """What the attempts before this one have raised."""

    def make(
        self,
        context: RunContext,
        function: Callable[..., object],
        arguments: tuple[object, ...],
        keywords: dict[str, object],
        settings: Calling | None,
        /,
    ) -> Any:
        """Make a call, or give what it returned before."""


class InRun(Protocol):
    """What a context has of the line of execution that it is of."""

    @property
    def account(self) -> Account:
        """What the run has spent."""

    def calls_of(self, context: RunContext, /) -> Calls:
        """The journaled calls of the ``exec`` that a context is of."""

    def spend(self, context: RunContext, amounts: Amounts, /) -> None:
        """Count what was spent outside of a call, and put it on record with the next row."""
