"""The run context: what a node may know about the run that executes it.

There is one context variable for it in the whole library. It is carried into the threads and tasks
that the engine starts; later features add to :class:`RunContext` instead of inventing their own.
What a node pays for inside of ``exec`` it calls through it: ``context().call(llm, prompt)``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Literal, ParamSpec, TypeAlias, TypeVar, cast

from pocoflow.errors import NoRunError, RunCancelled, RunError
from pocoflow.nodes.call_checks import by_keyword
from pocoflow.nodes.calling import Calling, Calls, InRun
from pocoflow.nodes.resources import NO_RESOURCES, Resources, find_resource
from pocoflow.nodes.spending import Amount, Amounts, amounts_of, charged
from pocoflow.values.failures import Failure

Phase: TypeAlias = Literal["prep", "exec", "post", "commit"]
"""Which part of a visit to a node is at work."""

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")


class Cancellation:
    """One run's request to stop: a flag that is cheap to read, and callbacks that end waits.

    Attributes:
        requested: Whether the run was asked to stop. Never goes back to ``False``.
        deadline: Seconds that the run may take, or ``None``.
        is_expired: Whether it was its deadline that stopped it.
        callbacks: What is called then; added and removed by the methods.
    """

    __slots__ = ("callbacks", "deadline", "is_expired", "requested")

    def __init__(self, deadline: float | None = None) -> None:
        self.requested = False
        self.deadline = deadline
        self.is_expired = False
        self.callbacks: dict[Callable[[], object], None] = {}

    def request(self) -> None:
        """Ask the run to stop, from any thread; ends a retry delay or an await.

        Takes no lock: a signal handler or a finalizer may ask, too.
        """
        asked = [self]
        for one in asked:
            one.requested = True
            while one.callbacks:
                try:
                    callback, _ = one.callbacks.popitem()
                except KeyError:
                    break  # another thread calls the last one
                inner = getattr(callback, "__self__", None)
                if isinstance(inner, Cancellation):  # of branches, however deep they are
                    asked.append(inner)
                else:
                    callback()

    def expire(self) -> None:
        """Ask the run to stop because its deadline has passed."""
        self.is_expired = not self.requested
        self.request()

    def add_callback(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` once, in the thread that asks; at once if it was asked already."""
        self.callbacks[callback] = None
        if self.requested and self.callbacks.pop(callback, callback) is None:
            callback()

    def remove_callback(self, callback: Callable[[], object]) -> None:
        """Forget a callback; nothing happens if it was called already."""
        self.callbacks.pop(callback, None)


class RunContext:
    """The run, step and attempt that the calling code belongs to.

    The engine keeps one object per run and updates it from step to step, so read what you need
    while your phase runs instead of keeping the object.

    Attributes:
        run_id: The run's id, as in the database.
        flow_name: The flow's name.
        node: The node's name in the flow's graph.
        path: Names of the flow nodes around it, outermost first; empty if the flow is not nested.
        step: The step's number, from 0. Steps are numbered as they are committed, so in a parallel
            branch it is the number that the step would have if it were the next one to end.
        branches: The parallel branches around this, outermost first: the number of the step in
            which each began, as ``count`` has it there, and which branch of it this is.
        count: The number of the step among those of its branch, from 0.
        phase: ``"prep"``, ``"exec"`` or ``"post"``.
        attempt: The attempt of ``exec``, from 1.
        item: The item's number in a batch, else ``None``: its index, unless a resumed run found
            other items than before.
        mark: What tells that item from the others of its step; empty if nothing does.
        cancellation: The run's request to stop.
        token: 128 random bits of the run as text; the same after a resume.
        group: What the tasks of the run are known by on the loop of synchronous runs.
        resources: The objects that the run was given; ``context()[key]`` gets one.
        emitter: Who gets what is emitted; ``None`` if nobody listens.
        given_up: Why nobody waits any more for the attempt that has this context, if so.
        line: The line of execution; ``None`` before and after it is at work.
    """

    __slots__ = (
        "attempt",
        "branches",
        "cancellation",
        "count",
        "emitter",
        "flow_name",
        "given_up",
        "group",
        "item",
        "line",
        "mark",
        "node",
        "path",
        "phase",
        "resources",
        "run_id",
        "step",
        "token",
    )

    def __init__(
        self,
        run_id: str,
        flow_name: str,
        token: str,
        cancellation: Cancellation,
        resources: Resources = NO_RESOURCES,
    ) -> None:
        self.run_id = run_id
        self.flow_name = flow_name
        self.node = ""
        self.path: tuple[str, ...] = ()
        self.step = 0
        self.branches: tuple[tuple[int, int], ...] = ()
        self.count = 0
        self.phase: Phase = "prep"
        self.attempt = 1
        self.item: int | None = None
        self.mark = ""
        self.cancellation = cancellation
        self.token = self.group = token
        self.resources = resources
        self.emitter: Callable[[RunContext, object], object] | None = None
        self.given_up: RunError | None = None
        self.line: InRun | None = None

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
        """The context of a parallel branch: of a step, by its number here, and which one of it."""
        branch = RunContext(self.run_id, self.flow_name, self.token, cancellation, self.resources)
        branch.branches, branch.path = (*self.branches, began), path
        branch.emitter = self.emitter
        branch.node, branch.step = self.node, self.step
        return branch

    def for_attempt(self) -> RunContext:
        """The context of an attempt that may be given up while it goes on."""
        attempt = object.__new__(RunContext)
        for name in RunContext.__slots__:
            setattr(attempt, name, getattr(self, name))
        return attempt

    @property
    def calls(self) -> Calls:
        """The journaled calls of the ``exec`` that is at work.

        Raises:
            RunError: None is: this is ``prep`` or ``post``, or no part of a run.
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

        Inside of a journaled call it is on record with what the call returned, and so is never
        counted again; elsewhere it is with the attempt, or the step. Any thread may call it.

        Args:
            amounts: How much, by name: an int, a float or a Decimal of at least 0. A float counts
                as the decimal number that Python shows for it, so that sums are exact.

        Raises:
            DefinitionError: An amount is no such number.
            NoRunError: This is no part of a run.
        """
        found = amounts_of(amounts, "context().spend")
        if self.line is None:
            raise NoRunError(f"run {self.run_id!r} is not at work, so nothing is spent in it")
        self.line.account.add((*self.path, self.node), found)
        bill = charged.get()
        if bill is None:
            self.line.spend(self, found)
        else:
            bill.append(found)

    @property
    def account(self) -> Amounts:
        """What the run has spent by now, by name, its resumes included."""
        return {} if self.line is None else self.line.account.sums

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call something that costs, so that what it returned is on record before this returns.

        After a crash or a resume ``exec`` runs again, and each call in it that had returned gives
        what it returned then. The same holds in an attempt that follows one in which a call failed.
        Where ``exec`` itself failed, the last call is made again, as its answer was of no use, and
        those before it are not (``Retry(keep=True)`` keeps that one, too).

        A call is known by the name of its function, its arguments (``self`` does not count), and
        how many equal ones were made before it in this attempt. ``exec`` may make several at once,
        in threads or tasks.

        Args:
            function: A function; if it is asynchronous, the call is to be awaited.
            args: Its arguments, which can be stored.
            kwargs: Its keyword arguments, likewise.

        Returns:
            What it returned. What cannot be stored is returned, too, and the log says so: after a
            crash it is called again.

        Raises:
            DefinitionError: It is no function, has no name, or its annotation says that it returns
                what cannot be stored; it is not called.
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
            max_retries: How many attempts it may take, with the waits of the node between them.
            name: What it is known by; needed for a lambda, and where functions of one name, or
                methods of several objects, are called with the same arguments.

        Raises:
            DefinitionError: A setting makes no sense.
        """
        return Calling(self, timeout, max_retries, name).checked()

    @property
    def errors(self) -> tuple[Failure, ...]:
        """What the attempts of this ``exec`` before this one have raised, also before a crash.

        Raises:
            RunError: It is asked for outside of ``exec``.
        """
        return self.calls.errors

    def check_wanted(self) -> None:
        """Raise what ended the wait, if the run no longer waits for this attempt.

        Raises:
            RunError: What ended the wait: a ``NodeTimeoutError``, or a ``RunCancelled``.
        """
        if self.given_up is not None:
            raise type(self.given_up)(*self.given_up.args)

    def emit(self, value: object) -> None:
        """Show progress, a token, a partial result: an :class:`~pocoflow.events.Emitted` event.

        Whoever streams the run or subscribes to its events gets the value, at once and in order.
        It is not stored, unless the flow says so with ``record_emitted=True``: then whoever follows
        the run gets it, too. Any thread may call it; costs next to nothing if nobody listens.

        Raises:
            NotStorableError: It is to be recorded, and cannot be stored.
            RunError: The attempt that calls it was given up, at its timeout or with its run.
        """
        self.check_wanted()
        if self.emitter is not None:
            self.emitter(self, value)

    @property
    def scope(self) -> str:
        """Which parallel branch this is, as text, such as ``"12.0"``; empty outside of branches."""
        return "/".join(f"{step}.{number}" for step, number in self.branches)

    @property
    def idempotency_key(self) -> str:
        """A text that is the same for every attempt of this step, also after a crash and a resume.

        Hand it to a paid service as its idempotency key: what a crash makes the engine ask for a
        second time is then not charged twice. It is unique across runs and databases (128 random
        bits per run, and the step, in a parallel branch its place in the branch, and what an item
        is: one that a resumed run finds at another place has the text that it had).
        """
        item = "" if self.item is None else f"-{self.mark or self.item}"
        # The number of a step in a branch is known when it ends; its place in the branch is stable.
        step = f"{self.scope}-{self.count}" if self.branches else f"{self.step}"
        return f"{self.token}-{step}{item}"

    def is_stopped_by(self, exc: BaseException) -> bool:
        """Whether an exception is the cancellation of this run, or item, which is never retried."""
        return isinstance(exc, RunCancelled) and self.cancellation.requested

    def check_cancelled(self) -> None:
        """Let a long synchronous ``exec`` stop at a place of its choice.

        Raises:
            RunCancelled: If the run was asked to stop.
            NodeTimeoutError: If this attempt was given up at its timeout.
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
        NodeTimeoutError: In an attempt that was given up at its timeout and still goes on.
    """
    try:
        found = current.get()
    except LookupError:
        raise NoRunError(
            "context() works inside prep, exec and post of a running flow, and in the threads and "
            "tasks that the engine starts for them; no flow is running here"
        ) from None
    found.check_wanted()
    return found
