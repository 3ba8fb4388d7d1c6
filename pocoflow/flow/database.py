"""The database of a flow, opened on first use."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pocoflow.db.workflow import WorkflowDB
    from pocoflow.engine.effects import Storage


def is_missing(path: str | os.PathLike[str]) -> bool:
    """Whether there is no such file; opening one that cannot be examined raises an error."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return True
    except OSError:
        return False
    return False


class FlowDatabase:
    """Opens the database of a flow, once.

    Args:
        given: What names it; with ``None`` nothing is stored.
    """

    def __init__(self, given: str | os.PathLike[str] | WorkflowDB | None) -> None:
        self._given = given
        self._opened: list[WorkflowDB] = []

    def open(self) -> WorkflowDB | None:
        """The database; ``None`` if the flow has none."""
        given = self._given
        if not self._opened and given is not None:
            from pocoflow.db.workflow import WorkflowDB

            opened = given if isinstance(given, WorkflowDB) else WorkflowDB(given)
            # Threads that start first runs at the same time all use what one of them opened first.
            self._opened.append(opened)
            if opened is not self._opened[0]:
                opened.close()
        return self._opened[0] if self._opened else None

    def storage(self) -> Storage | None:
        """Where runs are stored, also before it is open."""
        if self._opened:
            return self._opened[0].connection
        given = self._given
        if given is None:
            return None
        if not isinstance(given, str | os.PathLike):
            return given.connection
        from pocoflow.engine.commits import Unopened

        return Unopened(os.path.abspath(given), self._connect)

    def is_missing(self) -> bool:
        """Whether it is a file that does not exist, which reading must not create."""
        given = self._given
        if self._opened or not isinstance(given, str | os.PathLike):
            return False
        path = os.fspath(given)
        return path != ":memory:" and "://" not in path and is_missing(path)

    def _connect(self) -> Storage:
        opened = self.open()
        assert opened is not None
        return opened.connection
