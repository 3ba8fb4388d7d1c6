"""Results of several threads that are committed together, and those that could not be."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from pocoflow.db.log import Kind, Row
from pocoflow.db.waiting_rows import WaitingRows
from pocoflow.errors import DatabaseError, DatabaseFileError, RunLostError

ROW = Row(Kind.ITEM, 0, item=1, data="1")


def test_what_a_ctrl_c_has_left_is_committed_once() -> None:
    """What was interrupted is left to the next call; what is committed is not."""
    put: list[Sequence[Row]] = []
    other = Row(Kind.ITEM, 0, item=2, data="2")

    def interrupted(_: Sequence[Row]) -> None:
        raise KeyboardInterrupt

    rows = WaitingRows()
    rows.commit([ROW], put.append)
    with pytest.raises(KeyboardInterrupt):
        rows.commit([other], interrupted)
    rows.commit_rest(put.append)
    rows.commit_rest(put.append)
    assert put == [[ROW], [other]]


def test_what_another_thread_commits_is_left_to_it() -> None:
    """A run that a Ctrl-C ends while items are committed in threads writes none of them twice."""
    put: list[Sequence[Row]] = []
    rows = WaitingRows()

    def commit(one: Sequence[Row]) -> None:
        interrupted = threading.Thread(target=rows.commit_rest, args=(put.append,))
        interrupted.start()
        interrupted.join()
        put.append(one)

    rows.commit([ROW], commit)
    assert put == [[ROW]]


def test_what_is_lost_is_counted_as_more_finish() -> None:
    """Nobody waits for the database once more, and each thread is told how many are lost by now."""
    tries = []

    def fail(_: Sequence[Row]) -> None:
        tries.append(1)
        raise DatabaseFileError("the disk is full")

    rows = WaitingRows()
    told = []
    for _ in range(3):
        with pytest.raises(DatabaseFileError) as caught:
            rows.commit([ROW], fail)
        told.append(str(caught.value))
    assert len(tries) == 1
    lost = "could not be recorded: a resume calls"
    assert told == [
        f"the disk is full; an item or a call has finished, and its result {lost} it again",
        f"the disk is full; 2 items or calls have finished, and their results {lost} them again",
        f"the disk is full; 3 items or calls have finished, and their results {lost} them again",
    ]


def test_of_a_run_that_is_lost_nothing_is_called_again() -> None:
    """Somebody else goes on with it, and has what is on record."""

    def fail(_: Sequence[Row]) -> None:
        raise RunLostError("another process goes on with it")

    rows = WaitingRows()
    with pytest.raises(DatabaseError, match=r"^another process goes on with it$"):
        rows.commit([ROW], fail)
