"""A virtual environment for each contender, made once and kept under a folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "by_hand": (),
    "by_pocketflow": ("pocketflow",),
    "by_langgraph": ("langgraph", "langgraph-checkpoint-sqlite"),
    "by_burr": ("apache-burr", "pydantic"),
    "by_pydantic_graph": ("pydantic-graph",),
    "by_workflows": ("llama-index-workflows[server]",),
    "by_dbos": ("dbos",),
    "plot": ("matplotlib",),
}


def requirements(name: str) -> tuple[str, ...]:
    """What an environment needs. pocoflow itself is taken from the source, as it is now."""
    if name in REQUIREMENTS:
        return REQUIREMENTS[name]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed: list[str] = project["dependencies"]
    if name == "by_monitor":
        needed = [*needed, *project["optional-dependencies"]["ui"], "playwright"]
    return tuple(needed)


def default_folder() -> Path:
    """Where environments are kept if nobody says otherwise."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "pocoflow-benchmarks"


@dataclass(frozen=True)
class Environment:
    """An environment that could be made, or why it could not.

    Attributes:
        python: Its interpreter.
        failure: What went wrong, empty if nothing did.
    """

    python: Path
    failure: str = ""


def make(name: str, folder: Path, *, anew: bool = False) -> Environment:
    """Make the environment, unless it is there already.

    Args:
        name: Of a contender.
        folder: Where environments are kept.
        anew: Whether to install the newest releases again.
    """
    needed = requirements(name)
    wanted = "\n".join([sys.version, *needed])
    key = hashlib.sha256(wanted.encode()).hexdigest()[:10]
    place = folder / f"{name.removeprefix('by_')}-{key}"
    python, made = place / "bin" / "python", place / "made"
    if made.exists() and not anew:
        return Environment(python)
    shutil.rmtree(place, ignore_errors=True)
    print(f"making the environment of {name.removeprefix('by_')}", file=sys.stderr)
    commands = [[sys.executable, "-m", "venv", str(place)]]
    if needed:
        options = ["--quiet", "--no-input", "--disable-pip-version-check"]
        commands.append([str(python), "-m", "pip", "install", *options, *needed])
    for command in commands:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
            return Environment(python, f"not installed: {lines[-1]}"[:200])
    made.write_text(wanted, encoding="utf-8")
    return Environment(python)
