"""What the numbers were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.environments import ROOT


def describe(folder: Path) -> dict[str, str]:
    """The machine, the file system of ``folder``, and the source that is measured."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": processor(),
        "cores": str(os.cpu_count()),
        "memory": memory(),
        "filesystem": filesystem(folder),
        "load": " ".join(f"{one:.2f}" for one in os.getloadavg()),
        "pocoflow": source(),
    }


def processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def memory() -> str:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"{pages / 2**30:.0f} GiB"


def filesystem(folder: Path) -> str:
    """The type and the options of the mount that a folder is on."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return "unknown"
    best = ("", "unknown")
    for line in mounts.read_text(encoding="utf-8").splitlines():
        _, point, kind, options = line.split()[:4]
        inside = folder.resolve().is_relative_to(point)
        if inside and len(point) >= len(best[0]):
            best = point, f"{kind} ({options})"
    return best[1]


def source() -> str:
    """The version of the source, and its commit if it is under git."""
    text = (ROOT / "pocoflow" / "_version.py").read_text(encoding="utf-8")
    version = text.partition("__version__ = ")[2].strip().strip('"')
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    return f"{version} ({done.stdout.strip()})" if done.returncode == 0 else version
