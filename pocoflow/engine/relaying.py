"""Relaying what an ``exec`` emits elsewhere to the run, before its result arrives.

A thread in the process of the run delivers it directly; a process on the same machine sends it
through a local socket, authenticated by a key. From anywhere else, or if that fails, it arrives
with the result. Each value is delivered once, and in order.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import cache, lru_cache
from itertools import count
from typing import TYPE_CHECKING

from pocoflow import values as codec
from pocoflow.cleanup import in_child
from pocoflow.engine.envelopes import NOWHERE, Endpoint, this_process
from pocoflow.logging import OwnLogger
from pocoflow.nodes.context import RunContext

if TYPE_CHECKING:
    from multiprocessing.connection import Connection, Listener

_log = OwnLogger("flow")


class Relay:
    """Delivers what a call emits to its run.

    Attributes:
        number: What identifies the call in this process; 0 if nobody listens to its run.
    """

    def __init__(self, context: RunContext) -> None:
        self.number = next(_numbers) if context.emitter is not None else 0
        self._context = context
        self._guard = threading.Lock()
        self._count = 0
        self._is_over = False
        if self.number:
            _calls[self.number] = self

    def take(self, index: int, text: str) -> None:
        """Deliver a value, if it is the next one and the run is waiting for it."""
        with self._guard:
            if index != self._count or self._is_over:
                return
            try:
                self._context.emit(codec.loads(text))
            except Exception as exc:  # noqa: BLE001 - raised when it arrives with the result
                _log.debug("what exec has emitted elsewhere was not delivered: %s", exc)
            else:
                self._count += 1

    def end(self) -> None:
        """Deliver nothing more; waits for a value that is being delivered."""
        with self._guard:
            self._is_over = True

    def forget(self) -> None:
        """Deliver nothing more, as nobody waits for the call; does not block."""
        self._is_over = True
        _calls.pop(self.number, None)

    def rest(self, texts: Sequence[str]) -> Sequence[str]:
        """Those of the values that arrived with the result which were not delivered yet."""
        return texts[self._count :]


_numbers = count(1)
_calls: dict[int, Relay] = {}


def _take(call: int, index: int, text: str) -> None:
    if (known := _calls.get(call)) is not None:
        known.take(index, text)


# -- in the process of the run ----------------------------------------------------------------


@cache
def endpoint() -> Endpoint:
    """The endpoint on which this process listens."""
    from multiprocessing.connection import Listener

    key = os.urandom(16)
    try:
        listener = Listener(authkey=key, backlog=64)
    except OSError as exc:
        _log.debug("what exec emits elsewhere comes with its result: %s", exc)
        return NOWHERE
    threading.Thread(target=_listen, args=(listener,), name="pocoflow-emitted", daemon=True).start()
    return Endpoint(socket.gethostname(), str(listener.address), key.hex())


def _listen(listener: Listener) -> None:
    from multiprocessing import AuthenticationError

    while True:
        try:
            connection = listener.accept()
        except (AuthenticationError, ConnectionError, EOFError):
            continue  # the peer has no key, or is gone; others may connect
        except OSError as exc:  # nobody can connect any more
            _log.debug("what exec emits elsewhere comes with its result: %s", exc)
            return
        threading.Thread(
            target=_receive, args=(connection,), name="pocoflow-emitted", daemon=True
        ).start()


def _receive(connection: Connection) -> None:
    with connection, suppress(EOFError, OSError):  # the worker is gone
        while True:
            call, _, rest = connection.recv_bytes().decode().partition(" ")
            index, _, text = rest.partition(" ")
            _take(int(call), int(index), text)


# -- in a worker --------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def _channel(endpoint: Endpoint) -> tuple[threading.Lock, Connection | None]:
    """A connection to the process of a run, if one is possible, and the lock to send on it."""
    connection = None
    if endpoint.address and endpoint.host == socket.gethostname():
        from multiprocessing.connection import Client

        try:
            connection = Client(endpoint.address, authkey=bytes.fromhex(endpoint.key))
        except Exception as exc:  # noqa: BLE001 - then it arrives with the result
            _log.debug("what exec emits comes with its result: %s", exc)
    return threading.Lock(), connection


def relay(home: str, endpoint: Endpoint, call: int, index: int, text: str) -> None:
    """Send an emitted value to a run.

    Args:
        home: The process of the run.
        endpoint: Where that process listens.
        call: The number of the call there.
        index: How many values it has emitted before.
        text: The value.
    """
    if home == this_process():
        _take(call, index, text)
        return
    guard, connection = _channel(endpoint)
    if connection is not None:
        with guard, suppress(OSError):  # it arrives with the result, too
            connection.send_bytes(f"{call} {index} {text}".encode())


@in_child
def _forget() -> None:
    # The listener and the connections belong to the parent process.
    endpoint.cache_clear()
    _channel.cache_clear()
    _calls.clear()
