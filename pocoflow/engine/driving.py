"""What all drivers have in common: the steps of a line, and the single context of these."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

from pocoflow.engine.effects import Call, Driven, Effect, Inside, Steps
from pocoflow.engine.threads import Work
from pocoflow.nodes.context import RunContext, current


def line_of(context: RunContext) -> Context:
    """The context of a new line; a copy, so that it need not be restored after a Ctrl-C."""
    line = copy_context()
    line.run(current.set, context)
    return line


class Driver:
    """Drives steps in the context of their line.

    Everything that belongs to the line runs in this context, in whichever thread: the step loop,
    and each phase of a node. The driver itself stays outside, so that it can continue while an
    abandoned call still occupies the context.
    """

    def __init__(self, line: Context, steps: Steps) -> None:
        self.line = line
        self._steps = steps
        self._around: list[Steps] | None = None

    def send(self, value: object) -> Driven | None:
        """Resume the step loop with the result of its effect; the next one, ``None`` at the end.

        Nested steps are carried out here, without recursion.
        """
        return self.line.run(self._advance, self._steps.send, value)

    def throw(self, exc: BaseException) -> Driven | None:
        """The same, with an error."""
        return self.line.run(self._advance, self._steps.throw, exc)

    def take(self, effect: Effect) -> Driven | None:
        """The same, from an effect that the steps yielded before this driver got them."""
        if not isinstance(effect, Inside):
            return effect
        self._enter(effect)
        return self.send(None)

    def _advance(self, step: Callable[[Any], Effect], value: object) -> Driven | None:
        while True:
            effect: Effect | None = None
            try:
                # next() with a default avoids a StopIteration, which costs more than a step.
                effect = next(self._steps, None) if value is None else step(value)
                value = None
            except StopIteration:
                value = None
            except BaseException as exc:
                value = None  # avoids a reference cycle through this frame
                if not self._around:
                    raise
                self._steps = self._around.pop()
                step, value = self._steps.throw, exc
                continue
            if isinstance(effect, Inside):
                self._enter(effect)
            elif effect is not None or not self._around:
                return effect
            else:
                self._steps = self._around.pop()

    def _enter(self, effect: Inside) -> None:
        """Make nested steps the current ones."""
        if self._around is None:
            self._around = []
        self._around.append(self._steps)
        self._steps = effect.steps

    @property
    def context(self) -> RunContext:
        """The run context of the line: of the run, or of its current item of a batch."""
        return self.line[current]

    def _work(self, effect: Call) -> Work:
        """The call as work for a thread."""
        return Work(effect.context or self.line, effect.function, effect.arguments)

    def _leave(self, work: Work) -> bool:
        """Abandon a call together with the line's context if it still runs; whether it does."""
        continues = work.context is self.line and not work.is_over
        if continues:
            self.line = self.line.copy()
        return continues
