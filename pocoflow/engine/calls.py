"""Journaled calls: what ``exec`` pays for is recorded before ``exec`` continues."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import partial
from inspect import isawaitable
from itertools import count
from json.encoder import encode_basestring
from time import perf_counter
from types import UnionType
from typing import TYPE_CHECKING, Any, NamedTuple, get_origin

from pocoflow import values as codec
from pocoflow.address import Address
from pocoflow.engine.commits import commit
from pocoflow.engine.digests import digest
from pocoflow.engine.effects import Commit
from pocoflow.engine.ledger import Ledger
from pocoflow.engine.outcomes import opened
from pocoflow.engine.threads import Work, in_thread
from pocoflow.engine.waits import awaited, bounded, sleep
from pocoflow.errors import (
    BudgetError,
    DatabaseError,
    DecodeError,
    DefinitionError,
    NodeTimeoutError,
    NotStorableError,
    Retry,
)
from pocoflow.graph.graph import Vertex
from pocoflow.graph.step_records import ALONE, Called, Identity
from pocoflow.graph.unfinished import NOTHING, Unfinished
from pocoflow.messages import main_name, short, type_label
from pocoflow.nodes.annotations import awaited as awaited_hint, read_hints
from pocoflow.nodes.calling import Calling
from pocoflow.nodes.context import RunContext, current
from pocoflow.nodes.settings import retry_wait, wants_retry
from pocoflow.nodes.spending import Amounts, CallBill, charged, sum_of
from pocoflow.values.callables import is_async
from pocoflow.values.copies import copied
from pocoflow.values.failures import Failure

if TYPE_CHECKING:
    from pocoflow.engine.envelopes import Reply


class _Function(NamedTuple):
    """What is known about a function.

    Attributes:
        name: The name by which calls of it are identified.
        is_async: Whether a call of it is awaited.
    """

    name: str
    is_async: bool


class _Call(NamedTuple):
    """A call that is being made."""

    context: RunContext
    settings: Calling | None
    made: partial[Any]
    name: str
    key: Hashable


class ExecCalls:
    """The calls of one ``exec``: of a step, or of one of its items.

    Attributes:
        item: The item that ``exec`` works on, if it is one of several.
        refused: Why a call was refused: a budget is spent.
        broken: Why a call could not be recorded, which ends the run.
    """

    def __init__(
        self,
        ledger: Ledger,
        vertex: Vertex,
        context: RunContext,
        unfinished: Unfinished | None,
        given: tuple[object, ...],
        refusal: Callable[[], BudgetError | None] | None,
    ) -> None:
        """Start from what is recorded.

        Args:
            ledger: Where calls are recorded.
            vertex: The node.
            context: The context of the ``exec``.
            unfinished: What is recorded of the step, if it is one that was resumed.
            given: What ``prep`` returned, if that is unchanged.
            refusal: Tells why no more calls may be made; ``None`` if there is no budget.
        """
        self._ledger, self._node, self._given = ledger, vertex.node, given
        self._step = context.step
        self._address = Address(context.path, vertex.name)
        self.item = None if context.item is None else Identity(context.item, context.mark)
        number = ALONE if context.item is None else context.item
        unfinished = unfinished or NOTHING
        self._classes = unfinished.classes or codec.Classes()
        started = unfinished.items.get(number)
        self._errors: list[Exception | Failure] = [] if started is None else [*started.errors]
        # What calls have returned: as recorded when the step began, and in this process.
        self._texts: dict[Hashable, str] = dict(unfinished.calls.get(number, {}).items())
        self._values: dict[Hashable, tuple[object, bool]] = {}
        self._keeps, self._remembers = ledger.keeps, vertex.node.max_retries > 1
        self._forgets = not (self._keeps or self._remembers)  # no result is reused
        self._guard = threading.Lock()
        self._begin(context.attempt)
        self.broken: DatabaseError | None = None
        self._refusal = refusal
        self.refused: BudgetError | None = None

    def _begin(self, attempt: int) -> None:
        # None of these needs a lock when threads make calls concurrently.
        self._made: dict[Hashable, Iterator[int]] = {}
        self._used: set[Hashable] = set()
        self._in_flight: set[Hashable] = set()
        self._raised: list[BaseException] = []
        self._last: Hashable = None
        self._attempt = attempt

    # -- a call -----------------------------------------------------------------------------------

    def make(
        self,
        context: RunContext,
        function: Callable[..., object],
        arguments: tuple[object, ...],
        keywords: dict[str, object],
        settings: Calling | None,
    ) -> object:
        """Make a call, or return its earlier result, for an attempt that was not abandoned."""
        if context.cancellation.requested:
            context.check_cancelled()
        about = _FUNCTIONS.get(_id_of(function))
        if about is None or (settings is not None and settings.name is not None):
            while isinstance(bound := function, partial):
                arguments = (*bound.args, *arguments)
                function, keywords = bound.func, {**bound.keywords, **keywords}
            about = self._about_function(function, settings)
        base = self._key(about.name, arguments, keywords)
        if self._texts and self._classes.shapes and f"{base} 0" not in self._texts:
            old_key = self._key(about.name, arguments, keywords, self._classes.shapes)
            base = old_key if f"{old_key} 0" in self._texts else base
        if self._forgets and settings is None and current.get(None) is not None:
            self._check_budget()
            return function(*arguments, **keywords)
        if context.attempt != self._attempt:
            with self._guard:
                if context.attempt != self._attempt:
                    self._begin(context.attempt)
        counter = self._made.get(base) or self._made.setdefault(base, count())
        key = f"{base} {next(counter)}" if base.__class__ is str else (base, next(counter))
        if key in self._values or key in self._texts:
            return self._give(key, function, about)
        self._check_budget()
        self._in_flight.add(key)
        made = partial(function, *arguments, **keywords)
        call = _Call(context, settings, made, about.name, key)
        return self._await(call) if about.is_async else self._do(call)

    def _do(self, call: _Call) -> object:
        context = call.context
        began = perf_counter() if self._keeps else 0.0
        outside = current.get(None) is None  # in a thread that ``exec`` started
        token = current.set(context) if outside else None
        bill = CallBill(str(call.key))
        charges = charged.set(bill) if self._keeps else None
        try:
            result = call.made() if call.settings is None else self._tried(call, call.settings)
        except BaseException as exc:
            self._failed(call, exc, bill)
            raise
        finally:
            if charges is not None:
                charged.reset(charges)
            if token is not None:
                current.reset(token)
        if result.__class__ is not str and isawaitable(result):
            return self._await(call, result, bill)
        if context.given_up is not None:
            context.check_wanted()
        if self._keeps:
            try:
                self._ledger.call(self._step, self._called(call, result, began, bill))
            except DatabaseError as exc:
                self.broken = exc
                raise
        return self._returned(call.key, result)

    def _returned(self, key: Hashable, result: object, *, is_awaited: bool = False) -> object:
        """The result of a call that is recorded, if the run records any."""
        if self._remembers:
            self._values[key] = copied(result), is_awaited
        self._used.add(key)
        self._in_flight.discard(key)
        self._last = key
        return result

    def _check_budget(self) -> None:
        if self._refusal is not None and (refused := self._refusal()) is not None:
            self.refused = refused
            raise refused

    def _give(self, key: Hashable, function: Callable[..., object], about: _Function) -> object:
        """The earlier result of a call."""
        if key in self._values:
            known, is_awaited = self._values[key]
            value = copied(known)
        else:
            text = self._texts[key]
            is_awaited, text = text.startswith("~"), text.removeprefix("~")
            hint = read_hints(function).get("return")
            # When it was called, the function may have been async and now be sync, or vice versa.
            is_awaited = about.is_async or (is_awaited and not _is_no_awaitable(hint))
            hint = awaited_hint(hint)
            classes = self._classes if hint is None else self._classes.of((hint,))
            try:
                value = codec.loads(text, classes)
            except DecodeError as exc:
                raise exc.about(
                    f"{self._about(about.name)}: what it returned cannot be read"
                ) from exc
        self._used.add(key)
        self._last = key
        return _again(value) if is_awaited else value

    def _tried(self, call: _Call, settings: Calling) -> object:
        attempt, timeout = 1, settings.timeout
        while True:
            try:
                if timeout is None:
                    return call.made()
                with self._limited(call, timeout):
                    pending = in_thread(Work(copy_context(), call.made, ()))
                    outcome = pending.wait(call.context, timeout)
                return opened(outcome)
            except Exception as exc:
                delay = self._delay(call, settings, attempt, exc)
                if delay is None:
                    raise
            sleep(delay, call.context.cancellation)
            call.context.check_cancelled()
            attempt += 1

    @contextmanager
    def _limited(self, call: _Call, timeout: float | None) -> Iterator[None]:
        """Make an error of the call's own of a wait that took longer than its timeout."""
        try:
            yield
        except NodeTimeoutError:
            raise NodeTimeoutError(
                f"{self._about(call.name)} took longer than its timeout of {timeout:g} seconds"
            ) from None

    async def _await(
        self,
        call: _Call,
        waiting: Awaitable[object] | None = None,
        bill: CallBill | None = None,
    ) -> object:
        context, began = call.context, perf_counter()
        bill = CallBill(str(call.key)) if bill is None else bill
        charges = charged.set(bill)
        try:
            result = await self._tried_async(call, waiting)
        except BaseException as exc:
            self._failed(call, exc, bill)
            raise
        finally:
            with suppress(ValueError):  # the task is gone, and this is another context
                charged.reset(charges)
        context.check_wanted()
        if self._keeps:
            called = self._called(call, result, began, bill, is_awaited=True)
            storage = self._ledger.storage
            try:
                if storage is None:
                    self._ledger.call(self._step, called)
                else:
                    await commit(Commit(storage, self._ledger.call, (self._step, called)))
            except DatabaseError as exc:
                self.broken = exc
                raise
        return self._returned(call.key, result, is_awaited=True)

    async def _tried_async(self, call: _Call, waiting: Awaitable[object] | None) -> object:
        settings = call.settings
        if settings is None:
            return await (call.made() if waiting is None else waiting)
        import asyncio

        attempt = 1
        while True:
            try:
                if waiting is None:
                    waiting = call.made()
                with self._limited(call, settings.timeout):
                    outcome = await bounded(awaited(waiting), settings.timeout, call.context)
                return opened(outcome)
            except Exception as exc:
                delay = self._delay(call, settings, attempt, exc)
                if delay is None:
                    raise
            await asyncio.sleep(delay)
            call.context.check_cancelled()
            waiting, attempt = None, attempt + 1

    def _delay(
        self, call: _Call, settings: Calling, attempt: int, error: Exception
    ) -> float | None:
        """Seconds before the next attempt of a call; ``None`` if there is none."""
        stopped, is_last = call.context.is_stopped_by(error), attempt >= settings.max_retries
        if stopped or is_last or not wants_retry(self._node.retry_on, error):
            return None
        return retry_wait(self._node, attempt)

    def _called(
        self,
        call: _Call,
        result: object,
        began: float,
        bill: list[Amounts],
        *,
        is_awaited: bool = False,
    ) -> Called:
        attempt, elapsed = call.context.attempt, perf_counter() - began
        facts = (self._address, str(call.key), result, is_awaited, attempt, elapsed)
        return Called(*facts, self.item, self._given, sum_of(bill), call.made.func)

    def _failed(self, call: _Call, error: BaseException, bill: list[Amounts]) -> None:
        context = call.context
        if bill and context.line is not None:
            context.line.spend(context, sum_of(bill))  # no recorded call includes it
        self._raised.append(error)
        self._in_flight.discard(call.key)

    # -- how a call is identified -----------------------------------------------------------------

    def _about_function(
        self, function: Callable[..., object], settings: Calling | None
    ) -> _Function:
        """What is known about a function.

        Raises:
            DefinitionError: No call of it can be recorded.
        """
        if not callable(function):
            raise DefinitionError(
                f"{self._about(short(function))}: it takes the function and its arguments, "
                "context().call(ask, prompt), not what a call of the function returned"
            )
        inner = getattr(function, "__func__", function)
        own_name = None if settings is None else settings.name
        name = own_name or _name(inner)
        hint = awaited_hint(read_hints(inner).get("return"))
        if name.endswith("<lambda>"):
            raise DefinitionError(
                f"{self._about('a lambda')} has no name to identify it after a crash: "
                "call a function, or give it a name, context().calling(name=...).call(...)"
            )
        if hint is not None:
            from pocoflow.check.storage_rules import not_storable

            if (bad := not_storable(hint, is_whole=True)) is not None:
                raise DefinitionError(
                    f"{self._about(name)}: it returns {type_label(bad)}, which cannot be stored: "
                    "return what can be, such as the text of an answer, or call it without "
                    "context().call"
                )
        about = _Function(name, is_async(function))
        if own_name is None and (code_id := _id_of(function)) is not None:
            if len(_FUNCTIONS) >= _MOST:
                _FUNCTIONS.clear()
            _FUNCTIONS[code_id] = about
        return about

    def _key(
        self,
        name: str,
        arguments: tuple[Any, ...],
        keywords: dict[str, object],
        shapes: Mapping[type, codec.Shape] = codec.NO_SHAPES,
    ) -> Hashable:
        """The key of a call, shared by equal calls alone; with arguments of these shapes."""
        if not keywords and _TEXT.issuperset(map(type, arguments)):
            if not self._keeps:
                return (name, *arguments)
            text = ",".join(map(encode_basestring, arguments))
        else:
            numbered = enumerate(arguments, 1)
            parts = [self._text(name, f"{index}", value, shapes) for index, value in numbered]
            for key in sorted(keywords):
                parts.append(f"{key}={self._text(name, repr(key), keywords[key], shapes)}")
            text = ",".join(parts)
        return f"{name} {digest(text)}"

    def _text(
        self, name: str, which: str, argument: object, shapes: Mapping[type, codec.Shape]
    ) -> str:
        try:
            return codec.identity(argument, shapes)
        except NotStorableError as exc:
            why = "cannot be stored, so that the call could not be recognised after a crash"
            exc.args = (f"{self._about(name)}: argument {which} {why}; {exc}",)
            raise

    def _about(self, name: str) -> str:
        return f"context().call({name}) in exec of node {self._address.text!r}"

    # -- attempts ---------------------------------------------------------------------------------

    @property
    def errors(self) -> tuple[Failure, ...]:
        """What the earlier attempts raised."""
        where, errors = self._address.text, self._errors
        failures = [exc if isinstance(exc, Failure) else Failure.of(where, exc) for exc in errors]
        errors[:] = failures
        return tuple(failures)

    def check_record(self, context: RunContext) -> None:
        """Check that every call that has returned was recorded.

        Raises:
            DatabaseError: One could not be, which ends the run.
            BudgetError: A call was refused.
        """
        if self.refused is not None:
            raise self.refused
        if self.broken is not None:
            context.phase = "commit"
            raise self.broken

    def fail(self, attempt: int, error: Exception) -> str:
        """Note how an attempt failed; returns the key of the call to be repeated, if any.

        Args:
            attempt: Its number.
            error: What it raised.
        """
        self._errors.append(error)
        last, self._last = self._last, None
        keeps = isinstance(error, Retry) and error.keep
        if attempt != self._attempt or last is None or keeps or self.is_of_call(error):
            return ""
        self._values.pop(last, None)
        self._texts.pop(last, None)
        return last if isinstance(last, str) else ""

    def is_of_call(self, error: BaseException) -> bool:
        """Whether a call raised an error, or was in flight when the attempt timed out."""
        if isinstance(error, NodeTimeoutError) and self._in_flight:
            return True
        seen: set[int] = set()
        pending: list[BaseException | None] = [error]
        while pending:
            linked = pending.pop()
            if linked is None or id(linked) in seen:
                continue
            if any(linked is raised for raised in self._raised):
                return True
            seen.add(id(linked))
            pending += [linked.__cause__, linked.__context__]
            if isinstance(linked, BaseExceptionGroup):
                pending += linked.exceptions
        return False

    # -- in another process -----------------------------------------------------------------------

    @property
    def record(self) -> Mapping[str, str]:
        """What calls have returned, as text by key, for an attempt in a worker."""
        return {key: text for key, text in self._texts.items() if isinstance(key, str)}

    @property
    def used(self) -> Sequence[str]:
        """The keys of the calls that ``exec`` has made."""
        return [str(key) for key in self._used]

    @property
    def last(self) -> str:
        """The key of the last call that has returned; empty if there is none."""
        return "" if self._last is None else str(self._last)

    def merge(self, attempt: int, reply: Reply) -> Iterator[Called]:
        """Take over the calls of an attempt in a worker; yields those to be recorded."""
        self._begin(attempt)
        self._used.update(reply.used)
        self._last = reply.last or None
        for call in reply.calls:
            text = str(call.result)
            self._texts[call.key] = f"{'~' if call.awaited else ''}{text}"
            if self._keeps:
                yield call._replace(result=codec.loads(text), given=self._given)

    def note(self, error: BaseException, reply: Reply) -> None:
        """Note what an attempt in a worker raised."""
        if reply.is_of_call:
            self._raised.append(error)
        if reply.is_refused and isinstance(error, BudgetError):
            self.refused = error

    def unused(self, attempt: int) -> str | None:
        """A remark on recorded calls that ``exec`` did not repeat; ``None`` if there are none."""
        used = self._used if attempt == self._attempt else set()
        unused = {**self._texts, **self._values}.keys() - used
        names = [_name_of(key) for key in unused]
        self._texts.clear()
        self._values.clear()
        if not names:
            return None
        shown = ", ".join(f"{name} ({count})" for name, count in Counter(names).most_common(5))
        where = self._address.text
        item = "" if self.item is None else f", item {self.item.number}"
        return (
            f"exec of node {where!r}{item} (step {self._step}) has not asked for {len(names)} "
            f"of the calls that had returned before: {shown}; it now makes other calls, or the "
            "same ones with other arguments"
        )


_MOST = 4096

_TEXT = frozenset({str})

_FUNCTIONS: dict[Hashable, _Function] = {}
"""What is known about functions that were called; cleared when they are too many."""


def _id_of(function: Any) -> Hashable:
    """Equal for functions that were created by the same code."""
    try:
        return function.__code__, function.__qualname__, function.__module__
    except AttributeError:
        return None


def _is_no_awaitable(hint: object) -> bool:
    """Whether a value with this annotation certainly cannot be awaited."""
    kind = get_origin(hint) or hint
    may_await = kind in (object, UnionType) or hasattr(kind, "__await__")
    return isinstance(kind, type) and not may_await


def _name(function: object) -> str:
    named = function if hasattr(function, "__qualname__") else type(function)
    # A method of a class that is not written in Python has no module of its own.
    module = getattr(getattr(named, "__objclass__", named), "__module__", None) or "builtins"
    # A file may be imported under several names, whose last part is the same.
    home = (main_name() if module == "__main__" else module).rpartition(".")[2]
    return f"{home}.{named.__qualname__}"


def _name_of(key: Hashable) -> str:
    """The name of a call's function."""
    if isinstance(key, tuple):
        return str(key[0][0])
    return str(key).rsplit(" ", maxsplit=2)[0]


async def _again(value: object) -> object:
    return value
