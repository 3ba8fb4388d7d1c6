"""The event loop of a synchronous run, in a thread beside it."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

__all__ = ["Companion", "CompanionLoop"]


class Companion:
    """The companion loop of a run, started when it is first needed, by whichever thread."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._loop: CompanionLoop | None = None

    def loop(self) -> CompanionLoop:
        """The loop, which runs by now."""
        with self._guard:
            if self._loop is None:
                self._loop = CompanionLoop()
            return self._loop

    def close(self) -> None:
        """End the loop, if it was needed."""
        if self._loop is not None:
            self._loop.close()


class CompanionLoop:
    """An event loop in a thread of its own, for the awaits of a synchronous run."""

    def __init__(self) -> None:
        import asyncio

        self._loop = asyncio.new_event_loop()
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="pocoflow-loop", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._closing:
            # A task that raises one of these keeps it for whoever awaits the task, and asyncio
            # raises it out of the loop too: without the loop nobody would ever hear of it.
            with suppress(KeyboardInterrupt, SystemExit):
                self._loop.run_forever()

    def submit(self, coroutine: Any) -> Future[Any]:
        """Start a coroutine on the loop, in a copy of this thread's context."""
        import asyncio

        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self) -> None:
        """Cancel what is left, let it clean up, and end the thread."""
        import asyncio

        async def finish() -> None:
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)
            await self._loop.shutdown_asyncgens()
            await self._loop.shutdown_default_executor()

        asyncio.run_coroutine_threadsafe(finish(), self._loop).result()
        self._closing = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
