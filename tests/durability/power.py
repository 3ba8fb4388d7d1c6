"""Cut the power of a disk under running flows, and check that no acknowledged step is lost.

    python -m tests.durability.power --trials 100

The disk is a file with an ext4 file system, mounted through a loop device. ``EXT4_IOC_SHUTDOWN``
without flushing the log stops it at one instant: what was not yet written to it never will be, as
if the power were gone. It is then mounted again, which replays the log, and other processes look at
the database and go on with the run. The ledger is on another disk. Needs root, on Linux.

The process first gets a mount namespace of its own. A namespace that others create meanwhile, such
as ``ip netns exec`` does, would else hold a copy of the mount, and with it the file system that was
shut down: mounting the disk again would give that one, where every write fails.

With ``--synchronous NORMAL`` the last acknowledged steps may be gone; that shows how much these
trials find.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.durability.flows import Ledger
from tests.durability.kill import Cut, Outcome, Trial, finish, go_on, in_child, look_at, prepare

__all__ = ["CannotCut", "Disk", "main"]

_SHUTDOWN = 0x8004587D
_WITHOUT_LOG = struct.pack("I", 2)
_NEW_MOUNTS = 0x20000

SHAPES = ("long", "growing list", "in place", "typed")

SKIPPED = 77
"""The exit code where no disk can be mounted."""


class CannotCut(Exception):
    """No disk can be mounted here; says why."""


class Disk:
    """A small ext4 file system in a file, mounted."""

    def __init__(self, folder: Path) -> None:
        self.image = folder / "disk"
        self.mounted = folder / "mounted"
        self.mounted.mkdir()
        with self.image.open("wb") as file:
            file.truncate(64 << 20)
        _command("mkfs.ext4", "-q", "-F", str(self.image))
        self.mount()

    def mount(self) -> None:
        """Mount it; the file system replays its log."""
        _command("mount", "-o", "loop", str(self.image), str(self.mounted))

    def unmount(self) -> None:
        """Unmount it."""
        _command("umount", str(self.mounted))

    def cut_power(self) -> None:
        """Nothing that is written from now on reaches the disk."""
        descriptor = os.open(self.mounted, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, _WITHOUT_LOG)
        finally:
            os.close(descriptor)


def _command(*words: str) -> None:
    try:
        subprocess.run(words, check=True, capture_output=True, text=True)
    except FileNotFoundError as exc:
        raise CannotCut(f"there is no {words[0]} here") from exc
    except subprocess.CalledProcessError as exc:
        raise CannotCut(f"{' '.join(words)}: {exc.stderr.strip()}") from exc


def separate_mounts() -> None:
    """What this process mounts from now on is seen by itself and its children only."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_MOUNTS) != 0:
        raise CannotCut(f"no mount namespace: {os.strerror(ctypes.get_errno())}")
    _command("mount", "--make-rprivate", "/")


@contextmanager
def mounted_disk() -> Iterator[Disk]:
    """A disk, and nothing of it afterwards.

    Raises:
        CannotCut: Not root, not Linux, or no loop device.
    """
    if sys.platform != "linux" or os.geteuid() != 0:
        raise CannotCut("needs root on Linux to mount a disk")
    separate_mounts()
    folder = Path(tempfile.mkdtemp(prefix="pocoflow-power-"))
    try:
        disk = Disk(folder)
        try:
            yield disk
        finally:
            disk.unmount()
    finally:
        shutil.rmtree(folder)


def power_trial(disk: Disk, trial: Trial, after: float, number: int) -> Outcome:
    """Run, cut the power, mount again, look, go on, look again."""
    outcome = Outcome(trial)
    folder = disk.mounted / f"trial{number}"
    folder.mkdir()
    os.sync()  # the folder is there before the trial begins
    database, ledger = folder / "runs.db", disk.image.with_name(f"ledger{number}")
    book = Ledger(ledger)

    def strike() -> None:
        # The file system can still tell a write that it lets go of now that it is safe.
        book.write("cut", "-")
        disk.cut_power()

    ended = in_child(lambda: go_on(trial, Cut(), database, ledger), cut=(after, strike))
    outcome.killed += ended.result is None  # killed, or ended by the error of a disk that is gone
    disk.unmount()
    disk.mount()
    look_at(outcome, database, ledger)
    finish(outcome, database, ledger)
    shutil.rmtree(folder)
    ledger.unlink()
    return outcome


def spent(disk: Disk, shape: str, synchronous: str) -> float:
    """How long an undisturbed run takes."""
    trial = Trial("", shape, (), synchronous)
    ledger = disk.image.with_name("ledger")
    began = time.perf_counter()
    in_child(lambda: go_on(trial, Cut(), disk.mounted / f"{shape}.db", ledger))
    ledger.unlink()
    return time.perf_counter() - began


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out trials and print what became of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--synchronous", choices=("FULL", "NORMAL"), default="FULL")
    args = parser.parse_args(arguments)
    print(f"seed {args.seed}")
    prepare()
    chance = random.Random(args.seed)
    outcomes = []
    try:
        with mounted_disk() as disk:
            times = {shape: spent(disk, shape, args.synchronous) for shape in SHAPES}
            for number in range(args.trials):
                shape = SHAPES[number % len(SHAPES)]
                lossy = args.synchronous == "NORMAL"
                trial = Trial("power", shape, (), args.synchronous, lossy=lossy)
                outcome = power_trial(disk, trial, chance.uniform(0, 0.9 * times[shape]), number)
                outcomes.append(outcome)
                if outcome.problems:
                    print(f"\n{trial}", *outcome.problems, sep="\n  ", flush=True)
    except CannotCut as exc:
        print(exc)
        return SKIPPED
    print(
        f"{len(outcomes)} trials with synchronous={args.synchronous}: "
        f"{sum(o.killed for o in outcomes)} hit a running flow, "
        f"{sum(not o.problems for o in outcomes)} ok, "
        f"{sum(o.lost for o in outcomes)} acknowledged steps lost in "
        f"{sum(o.lost > 0 for o in outcomes)} trials, "
        f"{sum(o.repeated for o in outcomes)} paid calls repeated"
    )
    return 1 if any(o.problems for o in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
