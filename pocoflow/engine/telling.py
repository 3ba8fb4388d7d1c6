"""What an ``exec`` emits elsewhere, on its way to the run before the result is there.

A thread of the process of the run tells it there; a process on the same machine sends it through a
socket that users of their own machine alone can reach, with a key. From anywhere else, and if that
fails, it comes with the result. Each value is told once, and in order.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

from pocoflow import values as codec
from pocoflow.cleanup import in_child
from pocoflow.engine.envelopes import NO_DOOR, Door, here
from pocoflow.logging import OwnLogger
from pocoflow.nodes.context import RunContext

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_log = OwnLogger("flow")


class Told:
    """What a call has emitted and was told of already.

    Attributes:
        number: What the call is known by in this process.
    """

    def __init__(self, context: RunContext) -> None:
        self.number = next(_numbers)
        self._context = context
        self._guard = threading.Lock()
        self._count = 0
        self._is_over = False
        _calls[self.number] = self

    def take(self, index: int, text: str) -> None:
        """Tell of a value, if it is the next one and the run waits for it."""
        with self._guard:
            if index != self._count or self._is_over:
                return
            try:
                self._context.emit(codec.loads(text))
            except Exception as exc:  # noqa: BLE001 - raised as it comes with the result, if it does
                _log.debug("what exec has emitted elsewhere was not told: %s", exc)
            else:
                self._count += 1

    def end(self, *, waits: bool = True) -> bool:
        """Tell of nothing more; ``False`` if that would have to wait for a value that is told now.

        Args:
            waits: Whether to wait for it.
        """
        if not self._guard.acquire(blocking=waits):
            return False
        self._is_over = True
        self._guard.release()
        return True

    def forget(self) -> None:
        """Nobody waits for the call any more; does not wait."""
        self._is_over = True
        _calls.pop(self.number, None)

    def rest(self, texts: Sequence[str]) -> Sequence[str]:
        """Of what has come with the result, what was not told."""
        return texts[self._count :]


_numbers = count(1)
_calls: dict[int, Told] = {}


def _take(call: int, index: int, text: str) -> None:
    if (told := _calls.get(call)) is not None:
        told.take(index, text)


# -- in the process of the run ----------------------------------------------------------------


_own: list[Door] = []
_guard = threading.Lock()


def door() -> Door:
    """Where this process listens."""
    with _guard:
        if not _own:
            _own.append(_opened())
        return _own[0]


def _opened() -> Door:
    from multiprocessing.connection import Listener

    key = os.urandom(16)
    try:
        listener = Listener(authkey=key, backlog=64)
    except OSError as exc:
        _log.debug("what exec emits elsewhere comes with its result: %s", exc)
        return NO_DOOR
    threading.Thread(target=_listen, args=(listener,), name="pocoflow-emitted", daemon=True).start()
    return Door(socket.gethostname(), str(listener.address), key.hex())


def _listen(listener: object) -> None:
    from multiprocessing import AuthenticationError
    from multiprocessing.connection import Listener

    assert isinstance(listener, Listener)
    while True:
        try:
            connection = listener.accept()
        except (AuthenticationError, ConnectionError, EOFError):
            continue  # whoever it was has no key, or is gone: the next one may come
        except OSError as exc:  # nobody can connect any more
            _log.debug("what exec emits elsewhere comes with its result: %s", exc)
            return
        threading.Thread(
            target=_hear, args=(connection,), name="pocoflow-emitted", daemon=True
        ).start()


def _hear(connection: Connection) -> None:
    with connection, suppress(EOFError, OSError):  # the worker is gone
        while True:
            call, _, rest = connection.recv_bytes().decode().partition(" ")
            index, _, text = rest.partition(" ")
            _take(int(call), int(index), text)


# -- in a worker --------------------------------------------------------------------------------

_MOST = 16


class _Way:
    """The way to a process of runs; nothing, if there is none."""

    def __init__(self, door: Door) -> None:
        self._guard = threading.Lock()
        self._connection: Connection | None = None
        if door.address and door.host == socket.gethostname():
            from multiprocessing.connection import Client

            try:
                self._connection = Client(door.address, authkey=bytes.fromhex(door.key))
            except Exception as exc:  # noqa: BLE001 - it comes with the result then
                _log.debug("what exec emits comes with its result: %s", exc)

    def send(self, call: int, index: int, text: str) -> None:
        with self._guard:
            if self._connection is not None:
                try:
                    self._connection.send_bytes(f"{call} {index} {text}".encode())
                except OSError:
                    self._connection = None


_ways: dict[Door, _Way] = {}


def tell(home: str, door: Door, call: int, index: int, text: str) -> None:
    """Have a run told of a value.

    Args:
        home: The process of the run.
        door: Where that listens.
        call: The number of the call there.
        index: How many values it has emitted before.
        text: The value.
    """
    if home == here():
        _take(call, index, text)
        return
    with _guard:
        way = _ways.get(door)
        if way is None:
            if len(_ways) >= _MOST:
                _ways.clear()
            way = _ways[door] = _Way(door)
    way.send(call, index, text)


@in_child
def _forget() -> None:
    # Whoever listens, and what is sent by, is on the other side of the fork.
    global _guard  # noqa: PLW0603
    _guard = threading.Lock()
    for known in (_own, _ways, _calls):
        known.clear()
