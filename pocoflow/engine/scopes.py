"""Resources that a run opens itself: entered before its first node, exited at its end.

A resource of a run is entered and exited by its line, in the context of the line and, where that
awaits, in its task, as ``with`` and ``async with`` around the run would. A resource of the process
is entered outside of all runs, an asynchronous one in a task of its own.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary

from pocoflow.cleanup import at_exit, in_child
from pocoflow.engine.asking import Paused
from pocoflow.engine.effects import Await, Finish, Inside, Steps
from pocoflow.engine.line import Line
from pocoflow.engine.outcomes import Raised, opened, unwrapped
from pocoflow.errors import ResourceError
from pocoflow.logging import OwnLogger
from pocoflow.nodes.resources import (
    Resource,
    check_kind,
    is_awaited,
    is_of_process,
    manager_of,
    opens_alike,
)
from pocoflow.values.failures import add_note

if TYPE_CHECKING:
    import asyncio

_log = OwnLogger("flow")

_Leave: TypeAlias = Callable[..., Any]
"""``__exit__`` or ``__aexit__`` of what was entered."""


def with_resources(run: Line, steps: Steps) -> Steps:
    """Carry out the steps of a run while the resources that it has to open are open.

    Raises:
        ResourceError: What was opened is not a context manager, or is of another class.
        BaseException: Whatever the opening or the steps raised.
    """
    scope = _Scope(run)
    # Inside, and not "yield from", which would close a generator that gets a GeneratorExit.
    try:
        yield from scope.open()
        yield Inside(steps)
    except BaseException as exc:
        yield Inside(scope.close(None if isinstance(exc, Paused) else unwrapped(exc)))
        raise
    yield Inside(scope.close(None))


class _Scope:
    """The resources that are open for one run."""

    def __init__(self, run: Line) -> None:
        self._run = run
        self._objects = run.context.resources = dict(run.context.resources)
        self._left: list[tuple[Resource, _Leave, bool]] = []
        self._guard = threading.Lock()
        self._is_over = False

    def open(self) -> Steps:
        """Open the resources of the run, in the order in which its nodes declare them."""
        for key in self._run.opens:
            try:
                yield from self._open(key)
            except Exception as exc:
                add_note(unwrapped(exc), f"pocoflow: in the opening of {key!r}")
                raise

    def _open(self, key: Resource) -> Steps:
        of_process = is_of_process(key)
        manager = None
        if not is_awaited(key):
            enter = self._share if of_process else self._enter
            manager = yield from self._run.compute(enter, key)
            if manager is None:
                return
        wait = self._share_async if of_process else self._enter_async
        yield Await(wait(key, manager))

    def _enter(self, key: Resource) -> Any:
        """Enter a context manager; returns it instead if it has to be awaited."""
        manager = manager_of(key)
        if not hasattr(manager, "__enter__"):
            return manager
        entered, leave = manager.__enter__(), manager.__exit__
        self._left.append((key, leave, False))
        self._put(key, entered)
        return None

    async def _enter_async(self, key: Resource, manager: Any) -> None:
        manager = manager_of(key) if manager is None else manager
        entered, leave = await manager.__aenter__(), manager.__aexit__
        with self._guard:
            is_over = self._is_over  # it blocked its event loop, and the run ended meanwhile
            if not is_over:
                self._left.append((key, leave, True))
        if is_over:
            await _leave_late(key, leave)
        self._put(key, entered)

    def _share(self, key: Resource) -> Any:
        shared = _process[-1].enter(key)
        if isinstance(shared, _Awaited):
            return shared
        self._put(key, shared)
        return None

    async def _share_async(self, key: Resource, awaited: _Awaited | None) -> None:
        self._put(key, await _process[-1].enter_async(key, awaited))

    def _put(self, key: Resource, value: object) -> None:
        check_kind(key, value, "gave, when it was opened,")
        self._objects[key] = value

    def close(self, error: BaseException | None) -> Steps:
        """Close what is open, the last first, whatever happens meanwhile.

        Raises:
            BaseException: One that is not an ``Exception``, such as a Ctrl-C, once all is closed.
        """
        facts = (None, None, None)
        if error is not None:
            facts = (type(error), error, error.__traceback__)  # type: ignore[assignment]
        raised: BaseException | None = None
        while True:
            with self._guard:
                if not self._left:
                    self._is_over = True
                    break
                key, leave, awaits = self._left.pop()
            try:
                yield Finish(_leaving(leave, facts, awaits), awaits)
            except Exception as exc:  # noqa: BLE001 - how the run ends is decided already
                if not _is_only(unwrapped(exc), error):
                    self._report(key, unwrapped(exc))
            except BaseException as exc:  # noqa: BLE001 - raised below
                raised = exc if exc is not error and raised is None else raised
        if raised is not None:
            raise raised

    def _report(self, key: Resource, error: Exception) -> None:
        run = self._run
        text = (
            f"run {run.context.run_id!r}: {key!r} could not be closed ({type(error).__name__}: "
            f"{error}); the run ends as it would have without that"
        )
        _log.warning("%s", text, exc_info=error)
        if not run.completed:
            run.ledger.remark(text)


def _is_only(raised: BaseException, error: BaseException | None) -> bool:
    """Whether it is the error of the run, or a group of that alone, as a task group raises it."""
    if isinstance(raised, BaseExceptionGroup):
        return all(_is_only(inner, error) for inner in raised.exceptions)
    return raised is error


def _leaving(leave: _Leave, facts: tuple[object, object, object], awaits: bool) -> _Leave:
    async def awaiting() -> object:
        return await leave(*facts)

    return awaiting if awaits else partial(leave, *facts)


async def _leave(key: Resource, leave: _Leave) -> None:
    """Close what belongs to no run."""
    try:
        await leave(None, None, None)
    except Exception as exc:  # noqa: BLE001 - there is no run to report it to
        _log.warning("%r could not be closed", key, exc_info=exc)


async def _leave_late(key: Resource, leave: _Leave) -> None:
    """Close what was opened too late, in a task of its own, as the run's task is abandoned."""
    import asyncio

    task = asyncio.create_task(_leave(key, leave), context=Context())
    _late.add(task)
    task.add_done_callback(_late.discard)
    await asyncio.shield(task)


_late: set[asyncio.Task[None]] = set()
"""Referenced here, as an event loop has only weak references to tasks."""


# -- once for the process ----------------------------------------------------------------------

_PATIENCE = 5.0
"""Seconds that the interpreter's exit waits for a resource to close on an event loop."""


@dataclass(slots=True)
class _Awaited:
    """Stands for what has to be awaited, and holds a context manager for its first user."""

    managers: list[Any]

    def take(self, key: Resource) -> Any:
        """A context manager that was not entered yet."""
        try:
            return self.managers.pop()
        except IndexError:
            return manager_of(key)


@dataclass(slots=True)
class _Open:
    """A resource of the process, and the lock under which it is opened."""

    key: Resource
    guard: threading.Lock = field(default_factory=threading.Lock)
    opened: list[object] = field(default_factory=list)


class _Process:
    """The resources that are open for all runs of this process."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._open: dict[Resource, _Open] = {}
        self._left: list[tuple[Resource, _Leave]] = []
        self._on_loops: WeakKeyDictionary[Any, dict[Resource, _Keeper]] = WeakKeyDictionary()
        self._is_registered = False

    def enter(self, key: Resource) -> object:
        """The object of a resource, opened on first use."""
        with self._guard:
            entry = self._open.setdefault(key, _Open(key))
        _check_alike(entry.key, key)
        with entry.guard:  # other resources can be opened meanwhile
            if not entry.opened:
                manager = Context().run(manager_of, key)
                if hasattr(manager, "__enter__"):
                    entry.opened.append(Context().run(manager.__enter__))
                    self._left.append((key, manager.__exit__))
                else:
                    entry.opened.append(_Awaited([manager]))
            self._close_in_time()
            return entry.opened[0]

    def _close_in_time(self) -> None:
        """Register for the exit of a process that multiprocessing forked, which skips atexit."""
        process: Any = sys.modules.get("multiprocessing.process")
        if not self._is_registered and process is not None and process.parent_process() is not None:
            util: Any = importlib.import_module("multiprocessing.util")
            util.Finalize(None, self.close, exitpriority=0)
        self._is_registered = True

    async def enter_async(self, key: Resource, awaited: _Awaited | None) -> object:
        """The object of a resource that has to be awaited, opened once on this event loop."""
        import asyncio

        loop = asyncio.get_running_loop()
        with self._guard:
            keepers = self._on_loops.setdefault(loop, {})
            keeper = keepers.get(key)
            if keeper is None or keeper.is_over:
                keeper = keepers[key] = _Keeper(key, awaited or _Awaited([]))
        self._close_in_time()
        _check_alike(keeper.key, key)
        return await keeper.opened()

    def close(self) -> None:
        """Close what is open, the last first, at the end of the program."""
        import asyncio

        for loop, keepers in list(self._on_loops.items()):
            while keepers:
                key, keeper = keepers.popitem()
                if loop.is_running() and not keeper.is_over:
                    ends = asyncio.run_coroutine_threadsafe(keeper.close(), loop)
                    _close(key, partial(ends.result, _PATIENCE))
        while self._left:
            key, leave = self._left.pop()
            _close(key, partial(leave, None, None, None))


class _Keeper:
    """A task that opens a resource, and closes it when cancelled, such as when its loop ends."""

    def __init__(self, key: Resource, awaited: _Awaited) -> None:
        import asyncio

        self.key = key
        self._ready: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._hold(awaited), context=Context())

    @property
    def is_over(self) -> bool:
        """Whether the resource could not be opened, or is closed."""
        return self._task.done()

    async def opened(self) -> object:
        """The object, once it is open."""
        import asyncio

        return opened(await asyncio.shield(self._ready))

    async def close(self) -> None:
        """Close it."""
        import asyncio

        self._task.cancel()
        await asyncio.wait([self._task])

    async def _hold(self, awaited: _Awaited) -> None:
        import asyncio

        try:
            manager = awaited.take(self.key)
            entered = await manager.__aenter__()
        except BaseException as exc:
            is_usual = isinstance(exc, Exception)
            text = f"{self.key!r} could not be opened before its event loop ended"
            self._ready.set_result(Raised(exc if is_usual else ResourceError(text)))
            if is_usual:
                return
            raise
        self._ready.set_result(entered)
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await _leave(self.key, manager.__aexit__)


def _check_alike(known: Resource, key: Resource) -> None:
    if not opens_alike(known, key):
        raise ResourceError(
            f"{key!r} is open in this process by another key, which opens it in another way: "
            "import the key from where it is defined, or give one of them another name"
        )


def _close(key: Resource, close: Callable[[], object]) -> None:
    try:
        close()
    except Exception as exc:  # noqa: BLE001 - the program ends
        _log.warning("%r could not be closed", key, exc_info=exc)


_process = [_Process()]


@at_exit
def _close_all() -> None:
    _process[-1].close()


@in_child
def _forget() -> None:
    # What is open belongs to the parent process.
    _process.append(_Process())
