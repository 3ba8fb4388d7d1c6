"""The run context: what a node may know about the run that executes it.

There is one context variable for it in the whole library, which is carried into the threads and
tasks that the engine starts. What a node pays for inside of ``exec`` it calls through its context:
``context().call(llm, prompt)``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, ParamSpec, TypeAlias, TypeVar, cast

from pocoflow.errors import NoRunError, RunCancelled, RunError
from pocoflow.nodes.call_checks import by_keyword
from pocoflow.nodes.calling import Calling, Calls, InRun
from pocoflow.nodes.resources import Resources, find_resource
from pocoflow.nodes.spending import Amount, Amounts, amounts_of, charged
from pocoflow.values.failures import Failure

Phase: TypeAlias = Literal["prep", "exec", "post", "commit"]
"""The current part of a visit to a node."""

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")


class Cancellation:
    """One run's request to stop: a flag that is cheap to read, and callbacks that end waits.

    Attributes:
        requested: Whether the run was asked to stop; never reset to ``False``.
        deadline: Seconds that the run may take, or ``None``.
        is_expired: Whether its deadline stopped it.
        callbacks: Called on a request to stop; added and removed by the methods.
    """

    __slots__ = ("callbacks", "deadline", "is_expired", "requested")

    def __init__(self, deadline: float | None = None) -> None:
        self.requested = False
        self.deadline = deadline
        self.is_expired = False
        self.callbacks: dict[Callable[[], object], None] = {}

    def request(self) -> None:
        """Ask the run to stop, from any thread; ends a retry delay or an await.

        Takes no lock, so that a signal handler or a finalizer may call it.
        """
        pending = [self]
        for cancellation in pending:
            cancellation.requested = True
            while cancellation.callbacks:
                try:
                    callback, _ = cancellation.callbacks.popitem()
                except KeyError:
                    break  # another thread has taken the last one
                inner = getattr(callback, "__self__", None)
                if isinstance(inner, Cancellation):  # of branches, at any depth
                    pending.append(inner)
                else:
                    callback()

    def expire(self) -> None:
        """Ask the run to stop because its deadline has passed."""
        self.is_expired = not self.requested
        self.request()

    def add_callback(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` once, in the requesting thread; at once if it was requested already."""
        self.callbacks[callback] = None
        if self.requested and self.callbacks.pop(callback, callback) is None:
            callback()

    def remove_callback(self, callback: Callable[[], object]) -> None:
        """Remove a callback; does nothing if it was called already."""
        self.callbacks.pop(callback, None)


@dataclass(slots=True, eq=False, repr=False)
class RunContext:
    """The run, step and attempt that the calling code belongs to.

    The engine has one object per run and updates it from step to step, so read what you need while
    your phase runs instead of storing the object.

    Attributes:
        run_id: The run's id, as in the database.
        flow_name: The flow's name.
        node: The node's name in the flow's graph.
        path: Names of the flow nodes around it, outermost first; empty if the flow is not nested.
        step: The step's number, from 0. Steps are numbered as they are committed, so in a parallel
            branch it is the number that the step would have if it were the next one to end.
        branches: The parallel branches around this, outermost first: the ``count`` of the step in
            which each began, and the number of the branch in it.
        count: The number of the step among those of its branch, from 0.
        phase: ``"prep"``, ``"exec"`` or ``"post"``.
        attempt: The attempt of ``exec``, from 1.
        item: The item's number in a batch, else ``None``: its index, unless a resumed run found
            other items than before.
        mark: What distinguishes the item from the others of its step; empty if nothing does.
        cancellation: The run's request to stop.
        token: 128 random bits of the run as text; the same after a resume.
        group: What identifies the tasks of the run on the loop of synchronous runs, if it is not
            the token.
        resources: The objects that the run was given; ``context()[key]`` gets one.
        emitter: Called with what is emitted; ``None`` if nobody listens.
        given_up: Why the attempt that has this context was abandoned, if it was.
        line: The line of execution; ``None`` while it does not run.
    """

    run_id: str
    flow_name: str
    token: str
    cancellation: Cancellation
    resources: Resources
    node: str = ""
    path: tuple[str, ...] = ()
    step: int = 0
    branches: tuple[tuple[int, int], ...] = ()
    count: int = 0
    phase: Phase = "prep"
    attempt: int = 1
    item: int | None = None
    mark: str = ""
    group: str = ""
    emitter: Callable[[RunContext, object], object] | None = None
    given_up: RunError | None = None
    line: InRun | None = None

    def __getitem__(self, key: T) -> T:
        """The object that the run was given for ``key = resource(Class, name)``.

        Raises:
            ResourceError: It was not given one.
        """
        return cast(T, find_resource(self.resources, key))

    def for_item(self, number: int, mark: str, cancellation: Cancellation) -> RunContext:
        """The context of one item of a batch in the current step."""
        item = RunContext(self.run_id, self.flow_name, self.token, cancellation, self.resources)
        item.node, item.path, item.step = self.node, self.path, self.step
        item.phase, item.item, item.emitter = "exec", number, self.emitter
        item.mark, item.line = mark, self.line
        item.branches, item.count = self.branches, self.count
        return item

    def for_branch(
        self, began: tuple[int, int], path: tuple[str, ...], cancellation: Cancellation
    ) -> RunContext:
        """The context of a parallel branch; ``began`` is the count of the step, and its number."""
        branch = RunContext(self.run_id, self.flow_name, self.token, cancellation, self.resources)
        branch.branches, branch.path = (*self.branches, began), path
        branch.emitter = self.emitter
        branch.node, branch.step = self.node, self.step
        return branch

    def for_attempt(self) -> RunContext:
        """The context of an attempt that may be abandoned while it still runs."""
        attempt = object.__new__(RunContext)
        for name in RunContext.__slots__:
            setattr(attempt, name, getattr(self, name))
        return attempt

    @property
    def calls(self) -> Calls:
        """The journaled calls of the current ``exec``.

        Raises:
            RunError: There is none: this is ``prep`` or ``post``, or not part of a run.
        """
        self.check_wanted()
        if self.line is None or self.phase != "exec":
            raise RunError(
                f"context().call and context().errors work in exec of a node, and this is "
                f"{self.phase} of node {self.node!r} (run {self.run_id!r}, step {self.step})"
            )
        return self.line.calls_of(self)

    @by_keyword(more="; name what it is of: spend(usd=...)")
    def spend(self, **amounts: Amount) -> None:
        """Count what was spent: ``context().spend(tokens=812, usd=0.004)``.

        Inside of a journaled call it is recorded with the result of the call, and so is never
        counted again; elsewhere it is recorded with the attempt, or the step. Any thread may call
        it.

        Args:
            amounts: How much, by name: an int, a float or a Decimal of at least 0. A float counts
                as the decimal number that Python shows for it, so that sums are exact.

        Raises:
            DefinitionError: An amount is not such a number.
            NoRunError: This is not part of a run.
        """
        counted = amounts_of(amounts, "context().spend")
        if self.line is None:
            raise NoRunError(f"run {self.run_id!r} is not at work, so nothing is spent in it")
        self.line.account.add((*self.path, self.node), counted)
        bill = charged.get()
        if bill is None:
            self.line.spend(self, counted)
        else:
            bill.append(counted)

    @property
    def account(self) -> Amounts:
        """What the run has spent so far, by name, including what it spent before a resume."""
        return {} if self.line is None else self.line.account.sums

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call something that costs money, and record its result before this returns.

        After a crash or a resume ``exec`` runs again, and each call in it that had returned gives
        the same result without being made again. The same holds in an attempt that follows one in
        which a call failed. If ``exec`` itself failed, the last call is made again, as its answer
        was of no use, and earlier ones are not (``Retry(keep=True)`` keeps the last one, too).

        A call is identified by the name of its function, its arguments (``self`` does not count),
        and how many equal calls were made before it in this attempt. ``exec`` may make several
        concurrently, in threads or tasks.

        Args:
            function: A function; if it is asynchronous, the call is to be awaited.
            args: Its arguments, which must be storable.
            kwargs: Its keyword arguments, likewise.

        Returns:
            What it returned. A result that cannot be stored is returned as well, with a warning in
            the log: after a crash the call is made again.

        Raises:
            DefinitionError: It is not a function, has no name, or its annotation says that it
                returns what cannot be stored; it is not called.
            NotStorableError: An argument cannot be stored; it is not called.
            RunError: It is called outside of ``exec``.
            DatabaseError: The database cannot be written, which ends the run.
        """
        result: R = self.calls.make(self, function, args, kwargs, None)
        return result

    def calling(
        self, *, timeout: float | None = None, max_retries: int = 1, name: str | None = None
    ) -> Calling:
        """Settings of a journaled call: ``context().calling(timeout=30).call(llm, prompt)``.

        Args:
            timeout: Seconds that an attempt of it may take; a ``NodeTimeoutError`` after that.
            max_retries: How many attempts it may take, with the delays of the node between them.
            name: What identifies it; needed for a lambda, and where functions of one name, or
                methods of several objects, are called with the same arguments.

        Raises:
            DefinitionError: A setting is invalid.
        """
        return Calling(self, timeout, max_retries, name).checked()

    @property
    def errors(self) -> tuple[Failure, ...]:
        """What the earlier attempts of this ``exec`` raised, including those before a crash.

        Raises:
            RunError: It is read outside of ``exec``.
        """
        return self.calls.errors

    def check_wanted(self) -> None:
        """Check that the run still waits for this attempt.

        Raises:
            RunError: What ended the wait: a ``NodeTimeoutError``, or a ``RunCancelled``.
        """
        if self.given_up is not None:
            raise type(self.given_up)(*self.given_up.args)

    def emit(self, value: object) -> None:
        """Show progress, a token, a partial result: an :class:`~pocoflow.events.Emitted` event.

        Streams of the run and subscribers to its events get the value, at once and in order. It is
        stored only if the flow has ``record_emitted=True``: then followers of the run get it, too.
        Any thread may call it; it costs next to nothing if nobody listens.

        Raises:
            NotStorableError: It is to be recorded, and cannot be stored.
            RunError: The calling attempt was abandoned, at its timeout or with its run.
        """
        self.check_wanted()
        if self.emitter is not None:
            self.emitter(self, value)

    @property
    def scope(self) -> str:
        """The parallel branch as text, such as ``"12.0"``; empty outside of branches."""
        return "/".join(f"{step}.{number}" for step, number in self.branches)

    @property
    def idempotency_key(self) -> str:
        """A text that is the same for every attempt of this step, also after a crash and a resume.

        Pass it to a paid service as its idempotency key: a request that is repeated after a crash
        is then not charged twice. It is unique across runs and databases: it consists of 128 random
        bits per run, the number of the step, counted in its parallel branch if it is in one, and a
        digest of the item, so that an item keeps its key if a resumed run finds it at another
        index.
        """
        item = "" if self.item is None else f"-{self.mark or self.item}"
        # The number of a step in a branch is known only at its end; its count there is stable.
        step = f"{self.scope}-{self.count}" if self.branches else f"{self.step}"
        return f"{self.token}-{step}{item}"

    def is_stopped_by(self, exc: BaseException) -> bool:
        """Whether an exception is the cancellation of this run, or item, which is never retried."""
        return isinstance(exc, RunCancelled) and self.cancellation.requested

    def check_cancelled(self) -> None:
        """Let a long synchronous ``exec`` stop at a point of its choice.

        Raises:
            RunCancelled: If the run was asked to stop.
            NodeTimeoutError: If this attempt was abandoned at its timeout.
        """
        self.check_wanted()
        if self.cancellation.requested:
            raise RunCancelled(
                f"run {self.run_id!r} was cancelled in {self.phase} of node {self.node!r} "
                f"(step {self.step})"
            )

    def __repr__(self) -> str:
        return (
            f"RunContext(run_id={self.run_id!r}, node={self.node!r}, step={self.step}, "
            f"phase={self.phase!r}, attempt={self.attempt})"
        )


current: ContextVar[RunContext] = ContextVar("pocoflow_run_context")


def context() -> RunContext:
    """Return the context of the run that executes the calling ``prep``, ``exec`` or ``post``.

    Raises:
        NoRunError: Outside a run, as in a unit test that calls a phase directly.
        NodeTimeoutError: In an attempt that was abandoned at its timeout and still runs.
    """
    try:
        current_context = current.get()
    except LookupError:
        raise NoRunError(
            "context() works inside prep, exec and post of a running flow, and in the threads and "
            "tasks that the engine starts for them; no flow is running here"
        ) from None
    current_context.check_wanted()
    return current_context
