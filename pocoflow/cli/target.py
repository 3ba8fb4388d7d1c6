"""Finding the flow that a command names: ``package.module:flow`` or ``path/file.py:flow``."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel

from pocoflow.cli.database import check_there
from pocoflow.cli.output import CommandError
from pocoflow.errors import DefinitionError
from pocoflow.flow.flow import Flow
from pocoflow.flow.starting import importing
from pocoflow.messages import closest
from pocoflow.nodes.base import Node

__all__ = ["TARGET_HELP", "add_relocations", "load_flow", "owner_of_runs"]

TARGET_HELP = (
    "the flow: package.module:name or path/file.py:name, where name is a flow, or a function "
    "without parameters that makes one"
)


def add_relocations(parser: argparse.ArgumentParser) -> None:
    """Add what says that stored runs know the flow, or what it is made of, by other names."""
    parser.add_argument(
        "--flow-was",
        metavar="NAME",
        action="append",
        default=[],
        help="a name that the flow had before, when its run was started; may be repeated",
    )
    parser.add_argument(
        "--alias",
        metavar="OLD=NEW",
        type=_alias,
        action="append",
        default=[],
        help="a class of stored values that has another name now, as in "
        "old.module:Name=new.module:Name; may be repeated",
    )


def owner_of_runs(args: argparse.Namespace) -> Flow[Any]:
    """The flow that a command acts on stored runs with, with its database.

    Raises:
        CommandError: The target is not a flow, or there is no database.
    """
    flow = load_flow(args.flow)
    aliases = {old: _load_class(new) for old, new in args.alias}
    if args.db is not None:
        check_there(args.db)
    elif flow.db_path is None:
        raise CommandError(f"flow {flow.flow_name!r} has no db_path: name its database with --db")
    elif isinstance(flow.db_path, str | os.PathLike):
        check_there(flow.db_path)
    return flow.using(db_path=args.db, formerly=args.flow_was, aliases=aliases)


def _alias(text: str) -> tuple[str, str]:
    old, _, new = text.partition("=")
    if not old or not new:
        raise argparse.ArgumentTypeError(f"{text!r}: write OLD=NEW, two names of classes")
    return old, new


def _load_class(target: str) -> type:
    """Import a module and take a class from it.

    Raises:
        CommandError: The target cannot be understood or imported, or is not a class.
    """
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise CommandError(
            f"{target!r} does not name a class: write package.module:Name or path/file.py:Name"
        )
    found = _attribute(_import(place), place, name)
    if not isinstance(found, type):
        raise CommandError(f"{target} is {_kind(found)}, not a class")
    return found


def load_flow(target: str) -> Flow[Any]:
    """Import a module and take a flow from it.

    Raises:
        CommandError: The target cannot be understood or imported, or is not a flow.
    """
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise CommandError(
            f"{target!r} does not name a flow: write package.module:flow or path/file.py:flow"
        )
    try:
        with importing(target):
            module = _import(place)
            found = _attribute(module, place, name)
            if inspect.isroutine(found):
                found = _make(found, target)
    except DefinitionError as exc:
        raise CommandError(str(exc)) from exc
    if not isinstance(found, Flow):
        raise CommandError(f"{target} is {_kind(found)}, not a flow{_flows(module)}")
    return found


def _import(place: str) -> ModuleType:
    module = place
    if place.endswith(".py"):
        file = Path(place).resolve()
        if not file.is_file():
            raise CommandError(f"there is no file {place}")
        root, module = _importable(file)
    else:
        root = Path.cwd()
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as exc:
        raise CommandError(f"cannot import {place}: {_error(exc)}") from exc


def _importable(file: Path) -> tuple[Path, str]:
    """The folder from which a file is imported, and its name from there."""
    root, parts = file.parent, [file.stem]
    while (root / "__init__.py").exists():
        parts.insert(0, root.name)
        root = root.parent
    return root, ".".join(parts)


def _attribute(module: ModuleType, place: str, name: str) -> Any:
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            near = closest(part, _makers(found, module))
            raise CommandError(f"{place} has no {name!r}{near}{_flows(module)}")
        found = getattr(found, part)
    return found


def _make(function: Any, target: str) -> object:
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError) as exc:
        raise CommandError(
            f"{target} is a function that cannot be called without arguments: {exc}"
        ) from exc
    try:
        return function()
    except (Exception, SystemExit) as exc:
        raise CommandError(f"{target} failed: {_error(exc)}") from exc


def _makers(owner: Any, module: ModuleType) -> Iterator[str]:
    """The names of what a target may be: flows, and functions that may make one."""
    for name in dir(owner):
        value = getattr(owner, name, None)
        is_own = inspect.isfunction(value) and value.__module__ == module.__name__
        if not name.startswith("_") and (isinstance(value, Flow) or is_own):
            yield name


def _flows(module: ModuleType) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, Flow)]
    return f" (flows there: {', '.join(names)})" if names else ""


def _kind(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return "a node" if isinstance(value, Node) else f"of type {type(value).__name__}"


def _error(exc: BaseException) -> str:
    """An error of the user's code in one line, with the place if it is in a file of his."""
    text = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
    if isinstance(exc, SyntaxError | DefinitionError):
        return text
    text += _of_model(exc)
    frames = [
        frame
        for frame in traceback.extract_tb(exc.__traceback__)
        if not frame.filename.startswith("<frozen") and frame.filename not in _OWN
    ]
    # The last line of the user's own, where it is not all in a library.
    shown = [frame for frame in frames if not frame.filename.startswith(_LIBRARIES)] or frames
    return f"{text} ({shown[-1].filename}, line {shown[-1].lineno})" if shown else text


def _of_model(exc: BaseException) -> str:
    """A hint where a field was taken from a model itself: ``writes=Article.summary``."""
    model = getattr(exc, "obj", None)
    if not (isinstance(exc, AttributeError) and isinstance(model, type)):
        return ""
    if issubclass(model, BaseModel) and exc.name in model.model_fields:
        return f"; did you mean fields({model.__name__}).{exc.name}?"
    return ""


_OWN = {__file__, importlib.__file__}
_LIBRARIES = tuple(
    os.path.join(folder, "")
    for folder in {
        str(Path(__file__).parents[1]),
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    }
)
