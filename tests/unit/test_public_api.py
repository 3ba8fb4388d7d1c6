"""The surface of the package: what can be imported, what it is, and what an import costs."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import pocoflow
from pocoflow import FanOut, Flow, Node, errors, node
from pocoflow.db import WorkflowDB
from pocoflow.runner import RunHandle

MODULES = [
    "pocoflow",
    "pocoflow.db",
    "pocoflow.errors",
    "pocoflow.events",
    "pocoflow.flow",
    "pocoflow.logging",
    "pocoflow.node",
    "pocoflow.runner",
    "pocoflow.store",
]

DOCUMENTED = {
    "pocoflow": ["Store", "Node", "AsyncNode", "Flow", "WorkflowDB", "RunHandle"],
    "pocoflow.store": ["Store"],
    "pocoflow.node": ["Node", "AsyncNode"],
    "pocoflow.flow": ["Flow"],
    "pocoflow.db": ["WorkflowDB"],
    "pocoflow.logging": ["setup_logging", "get_logger"],
    "pocoflow.runner": ["RunHandle"],
}

EXCEPTIONS = [name for name in errors.__all__ if name not in ("Gap", "Remedy")]


def module(name: str) -> ModuleType:
    """Import a module by its full name (``pocoflow.node`` the attribute is the decorator)."""
    return importlib.import_module(name)


@pytest.mark.parametrize("name", MODULES)
def test_a_star_import_gives_what_is_in_all(name: str) -> None:
    """Every name in ``__all__`` is there, once, and nothing else comes along."""
    namespace: dict[str, object] = {}
    exec(f"from {name} import *", namespace)  # noqa: S102 - the statement under test
    del namespace["__builtins__"]
    exported = module(name).__all__
    assert sorted(namespace) == sorted(set(exported))
    assert len(exported) == len(set(exported))


def test_the_package_offers_what_is_in_all_and_its_modules() -> None:
    """``import pocoflow`` has no other public names than those of ``__all__``."""
    public = {
        name
        for name, value in vars(pocoflow).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    later = {"FanOut", "Parallel", "RunHandle", "Subflow", "WorkflowDB", "bind"}
    assert (pocoflow.RunHandle, pocoflow.WorkflowDB) == (RunHandle, WorkflowDB)
    assert public | later == {n for n in pocoflow.__all__ if n != "__version__"}


def test_dir_lists_what_the_package_offers() -> None:
    """Also what is imported when it is asked for; nothing of how that is done."""
    listed = dir(pocoflow)
    assert set(pocoflow.__all__) <= set(listed)
    assert {name for name in listed if not name.startswith("__")} <= set(pocoflow.__all__)
    assert "__doc__" in listed
    assert all(hasattr(pocoflow, name) for name in listed)


@pytest.mark.parametrize("name", MODULES)
def test_every_public_class_is_in_all(name: str) -> None:
    """A class without an underscore that a module defines is one that it exports."""
    defined = {
        key
        for key, value in vars(module(name)).items()
        if inspect.isclass(value) and value.__module__ == name and not key.startswith("_")
    }
    assert defined <= set(module(name).__all__)


@pytest.mark.parametrize("name", MODULES)
def test_everything_exported_is_explained(name: str) -> None:
    """Each exported class and function has a docstring, and so has each public method."""
    for key in module(name).__all__:
        value = getattr(module(name), key)
        if not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        assert inspect.getdoc(value), key
        for attribute, member in vars(value).items() if inspect.isclass(value) else ():
            if inspect.isfunction(member) and not attribute.startswith("_"):
                assert inspect.getdoc(member), f"{key}.{attribute}"


@pytest.mark.parametrize(
    ("name", "exported"), [(name, one) for name, many in DOCUMENTED.items() for one in many]
)
def test_the_documented_imports_work(name: str, exported: str) -> None:
    """Each name can be imported from where the documentation says it is, and is one object."""
    found = getattr(module(name), exported)
    assert exported in module(name).__all__
    assert found is getattr(pocoflow, exported, found)


@pytest.mark.parametrize(
    ("function", "keyword"),
    [
        (Flow.run, "run_id"),
        (Flow(Node()).run_async, "if_busy"),
        (Flow.submit, "at"),
        (Flow.resume, "rename"),
        (Flow.fork, "new_id"),
        (Flow.recover_async, "resources"),
        (WorkflowDB.list_runs, "since"),
        (WorkflowDB.prune, "labels"),
        (FanOut, "private"),
        (node, "max_retries"),
    ],
)
def test_help_lists_the_keywords_of_a_function(function: Any, keyword: str) -> None:
    """Each with its type, and with a default that says only that it may be left out."""
    parameters = inspect.signature(function).parameters
    assert not any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    assert str(parameters[keyword]).endswith("' = ...")
    assert " at 0x" not in str(inspect.signature(Flow.then))


def test_the_package_is_typed_and_has_a_version() -> None:
    """``py.typed`` is there, and ``__version__`` is the release number."""
    assert files("pocoflow").joinpath("py.typed").is_file()
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", pocoflow.__version__)


# -- exceptions ---------------------------------------------------------------------------------


def drawn() -> Iterator[tuple[str, list[str]]]:
    """The tree in the docstring of ``pocoflow.errors``: each class with its bases, ours first."""
    above: list[str] = []
    for text in inspect.cleandoc(errors.__doc__ or "").splitlines():
        match = re.fullmatch(
            r"    ((?:[│ ]   )*(?:[├└]── )?)(\w+Error|Retry|RunCancelled|RunPaused) *([\w, ]*)",
            text,
        )
        if match is None:
            continue
        depth = len(match[1]) // 4
        builtin = [name for name in match[3].split(", ") if name]
        yield match[2], [*above[depth - 1 : depth], *builtin]
        above[depth:] = [match[2]]


def test_the_tree_of_exceptions_is_as_drawn() -> None:
    """The docstring names every exception, under its parent, with the builtins that it is too."""
    tree = dict(drawn())
    classes = {name: getattr(errors, name) for name in EXCEPTIONS}
    assert set(tree) == set(classes)
    for name, bases in tree.items():
        actual = [base.__name__ for base in classes[name].__bases__]
        assert actual == (bases or ["Exception"]), name


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_every_exception_is_one_of_ours_and_shows_its_message_as_it_is(name: str) -> None:
    """``except PocoflowError`` catches it, and its text has no quotes around it."""
    kind = getattr(errors, name)
    assert issubclass(kind, errors.PocoflowError)
    if name == "NotStorableError":
        assert "at ['a']: " in str(kind("['a']", "lock", "it lives"))
        return
    assert str(kind("a 'key' is missing")) == "a 'key' is missing"
    assert str(kind()) == ""


# -- the cost of an import ----------------------------------------------------------------------

HEAVY = [
    "argparse",
    "asyncio",
    "click",
    "dask",
    "dd_logging",
    "numpy",
    "openai",
    "pandas",
    "pocketflow",
    "rich",
    "streamlit",
    "xllamacpp",
    "hashlib",
    "pydantic.types",
    "random",
]

_IMPORT = """
import json, sys
from pydantic import BaseModel
before = set(sys.modules)
import pocoflow, threading
after = set(sys.modules)
print(json.dumps([sorted(after - before), sorted(after), threading.active_count()]))
"""


def test_an_import_of_the_package_is_light() -> None:
    """It pulls in nothing heavy, little over Pydantic, and starts no thread."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", _IMPORT],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    added, loaded, threads = json.loads(ran.stdout)
    assert [name for name in HEAVY if name in loaded] == []
    assert threads == 1
    foreign = [name for name in added if name.partition(".")[0] != "pocoflow"]
    assert len(foreign) <= 25, foreign
    roots = {name.partition(".")[0] for name in foreign}
    assert roots <= sys.stdlib_module_names | {"pydantic", "pydantic_core", "typing_extensions"}


_DESCRIBED = """
import sys
from pocoflow import Flow, Node

def above():
    rooms = ("pocoflow.check", "pocoflow.db", "pocoflow.engine", "pocoflow.graph.graph")
    return [name for name in sys.modules if name.startswith(rooms)]

ask = Node()
flow = Flow(ask.then("again", ask), max_steps=1, budget={"usd": 1}).on("flow_end", print)
flow.require(ask).before(ask)
assert above() == [], above()
assert flow.graph.start.node is ask
assert "pocoflow.engine" not in sys.modules
"""


def test_a_flow_is_described_without_the_engine() -> None:
    """What runs, proves and stores flows is not imported before one of it is needed."""
    command = [sys.executable, "-W", "error", "-c", _DESCRIBED]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_an_import_writes_nothing(tmp_path: Path) -> None:
    """No file appears, and neither output nor a line of a log."""
    source = str(Path(pocoflow.__file__).parent.parent)
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import pocoflow"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": source},
    )
    assert (ran.stdout, ran.stderr) == ("", "")
    assert list(tmp_path.iterdir()) == []
