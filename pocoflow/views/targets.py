"""What a command names: a database, and the flow ``module:flow`` or ``path/file.py:flow``."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import inspect
import os
import shlex
import sys
import sysconfig
import traceback
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel

from pocoflow.db.postgres import is_server, refuse_other_names, without_password
from pocoflow.errors import DefinitionError, Gap, PocoflowError
from pocoflow.flow.database import is_missing
from pocoflow.flow.flow import Flow
from pocoflow.messages import closest, command_line, escape
from pocoflow.nodes.base import Node
from pocoflow.nodes.importing import importing, importing_alone
from pocoflow.nodes.resources import Resources

DATABASE = "pocoflow.db"
"""The default database of commands."""

TARGET_HELP = (
    "the flow: package.module:name or path/file.py:name, where name is a flow, or a function "
    "without parameters that returns one"
)


class TargetError(PocoflowError):
    """A target of a command does not exist, or is not what the command needs.

    Attributes:
        code: The exit code of the command.
    """

    code = 2


def check_there(path: str | os.PathLike[str], advice: str = "--db PATH names another") -> None:
    """Refuse a database that does not exist.

    Args:
        path: The database.
        advice: What to do.

    Raises:
        TargetError: There is no such file.
    """
    if not is_server(path) and is_missing(path):
        raise TargetError(f"there is no database {os.fspath(path)}; {advice}")


def add_database(parser: argparse.ArgumentParser, text: str, default: str | None = None) -> None:
    """Add the options that name the database of a command, ``--db`` and ``--db-env``.

    Args:
        parser: The parser of the command.
        text: The help for ``--db``.
        default: The default path.
    """
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--db", metavar="PATH", type=_database, default=default, help=text)
    _add_variable(group.add_argument)


def _add_variable(add: Callable[..., object]) -> None:
    add(
        "--db-env",
        metavar="NAME",
        dest="db",
        type=_variable,
        default=argparse.SUPPRESS,
        help="the environment variable with its path, or its postgresql:// URL",
    )


_variables: dict[str, str] = {}
"""The environment variables that hold the URLs of servers, by the URLs without passwords."""


def _database(text: str) -> str:
    try:
        refuse_other_names(text)
    except DefinitionError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc
    return without_password(text) if is_server(text) else text


def _variable(name: str) -> str:
    text = os.environ.get(name, "")
    if not text:
        raise argparse.ArgumentTypeError(f"there is no environment variable {name}, or it is empty")
    shown = _database(text)
    _variables[shown] = name
    return shown


def named_database(text: str) -> str:
    """The database of an argument: a path, a URL, or ``env:`` and a variable that holds it."""
    return _variable(text.removeprefix("env:")) if text.startswith("env:") else _database(text)


def database_words(path: str) -> list[str]:
    """The options of a command that name a database, without a password."""
    return ["--db-env", _variables[path]] if path in _variables else ["--db", path]


def command(*words: str, path: str | None) -> str:
    """A ``pocoflow`` command, ready to be pasted; with its database, unless that is the default."""
    given = [] if path in (None, DATABASE) else database_words(str(path))
    return command_line(*words, *given)


def remedies(
    exc: PocoflowError,
    run_id: str,
    target: str,
    db: str,
    path: str | None,
    shared: Container[str] = (),
    given: Iterable[tuple[str, str]] = (),
) -> Iterator[str]:
    """A line for each remedy of an error, with its command, if it has one.

    Args:
        exc: The error.
        run_id: The run that it is about.
        target: The target of the flow; empty if unknown.
        db: The database of the flow.
        path: The database, if it must be named.
        shared: The options of ``pocoflow resume`` that the failed command has, too.
        given: The options of ``pocoflow resume`` that it was given: the next one needs them, too.
    """
    known = {Gap.RUN: run_id, Gap.DB: db, Gap.FLOW: target or Gap.FLOW}
    for remedy in exc.remedies:
        words = remedy.words(known)
        options = words[3:] if words[:1] == ("resume",) else ()
        if options and options[0] in shared:
            yield escape(f"{remedy.what}: the same with {shlex.join(options)}")
            continue
        if options:
            replaced = {_about(*pair) for pair in zip(options[::2], options[1::2], strict=False)}
            remaining = (pair for pair in given if _about(*pair) not in replaced)
            words = (*words[:3], *chain.from_iterable(remaining), *options)
        gaps = [word for word in remedy.command if isinstance(word, Gap)]
        if words:
            takes_path = Gap.FLOW in gaps and Gap.DB not in gaps
            yield f"{remedy.what}: {command(*words, path=path if takes_path else None)}"
        elif remedy.python:
            yield f"{remedy.what}, in Python: {remedy.python}"


def _about(option: str, text: str) -> tuple[str, str]:
    """The subject of an option: for ``--set a=1`` it is the key."""
    return option, text.partition("=")[0]


def add_page(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the monitor page: its database, and an optional flow."""
    # Not the default of the argument, which would override --db-env.
    parser.set_defaults(db=DATABASE)
    parser.add_argument(
        "db",
        metavar="DB",
        nargs="?",
        type=_database,
        default=argparse.SUPPRESS,
        help=f"the database ({DATABASE}); it need not exist yet",
    )
    _add_variable(parser.add_argument)
    parser.add_argument("--flow", metavar="TARGET", help=TARGET_HELP)
    add_relocations(parser)


def page_arguments(arguments: Sequence[str]) -> tuple[str, str, Callable[[], Flow]]:
    """The arguments of the page: its database, its flow, and a function that loads the flow."""
    parser = argparse.ArgumentParser(add_help=False)
    add_page(parser)
    given, _ = parser.parse_known_args(arguments)
    return given.db, given.flow or "", lambda: owner_of_runs(given)


def add_repeated(
    parser: argparse.ArgumentParser,
    option: str,
    metavar: str,
    kind: Callable[[str], object],
    text: str,
) -> None:
    """Add an option that may be given several times.

    Args:
        parser: The arguments of the command.
        option: The option.
        metavar: The name of its value in the help.
        kind: Parses the value.
        text: The help for it.
    """
    text = f"{text}; may be repeated"
    parser.add_argument(option, metavar=metavar, type=kind, action="append", default=[], help=text)


def add_relocations(parser: argparse.ArgumentParser) -> None:
    """Add the options for stored runs that know the flow, or classes, by other names."""
    was = "a previous name of the flow, when its run was started"
    add_repeated(parser, "--flow-was", "NAME", str, was)
    alias = "a class of stored values that was renamed or moved, as in "
    alias += "old.module:Name=new.module:Name"
    add_repeated(parser, "--alias", "OLD=NEW", _alias, alias)


def add_resources(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the resources of runs."""
    parser.add_argument(
        "--resources",
        metavar="TARGET",
        help="the resources of runs, a dict or a function that returns one: module:name or "
        "path/file.py:name",
    )


def add_owner(parser: argparse.ArgumentParser) -> None:
    """Add the flow whose stored runs a command acts on, and its database."""
    parser.add_argument("flow", metavar="FLOW", help=TARGET_HELP)
    add_database(parser, "the database (that of the flow)")
    add_relocations(parser)


def owner_of_runs(args: argparse.Namespace) -> Flow:
    """The flow whose stored runs a command acts on, with its database; also ``args.owner``.

    Raises:
        TargetError: The target is not a flow, or there is no database.
    """
    run_id = getattr(args, "run_id", "")
    if ":" in run_id and ":" not in args.flow:
        right = command(args.command, args.flow, run_id, path=args.db)
        raise TargetError(f"{args.flow!r} does not name a flow; the run comes first: {right}")
    flow = load_flow(args.flow)
    aliases = {old: _load_class(new) for old, new in args.alias}
    if args.db is not None:
        check_there(args.db)
    elif flow.db_path is None:
        raise TargetError(f"flow {flow.flow_name!r} has no db_path: name its database with --db")
    elif isinstance(flow.db_path, str | os.PathLike):
        check_there(flow.db_path)
    owner = args.owner = flow.using(db_path=args.db, formerly=args.flow_was, aliases=aliases)
    return owner


def _alias(text: str) -> tuple[str, str]:
    old, _, new = text.partition("=")
    if not old or not new:
        raise argparse.ArgumentTypeError(f"{text!r}: write OLD=NEW, two names of classes")
    return old, new


def _load_class(target: str) -> type:
    """Import a module and take a class from it.

    Raises:
        TargetError: The target cannot be understood or imported, or is not a class.
    """
    _, value = _load(target, "a class", "Name", calls=False)
    if not isinstance(value, type):
        raise TargetError(f"{target} is {_kind(value)}, not a class")
    return value


def load_flow(target: str, *, alone: bool = True) -> Flow:
    """Import a module and take a flow from it.

    Args:
        target: The target.
        alone: Whether no other thread of this process starts a run meanwhile.

    Raises:
        TargetError: The target cannot be understood or imported, or is not a flow.
    """
    module, value = _load(target, "a flow", "flow", alone=alone)
    if not isinstance(value, Flow):
        raise TargetError(f"{target} is {_kind(value)}, not a flow{_flows(module)}")
    return value


def load_resources(target: str, *, alone: bool = True) -> Resources:
    """Import a module and take the resources of runs from it.

    Args:
        target: The target.
        alone: As for :func:`load_flow`.

    Raises:
        TargetError: The target cannot be understood or imported, or is not a mapping.
    """
    _, value = _load(target, "resources", "resources", alone=alone)
    if not isinstance(value, Mapping):
        raise TargetError(f"{target} is {_kind(value)}, not a dict of resources")
    return value


def _load(
    target: str, what: str, example: str, *, calls: bool = True, alone: bool = True
) -> tuple[ModuleType, object]:
    """A module, and the object that a target names in it, or that the named function returns.

    Args:
        target: The target.
        what: The kind of object, for messages.
        example: A name of such an object.
        calls: Whether a function is called for its result.
        alone: Whether no other thread of this process starts a run meanwhile.
    """
    source, colon, name = target.rpartition(":")
    if not colon or not source or not name:
        raise TargetError(
            f"{target!r} does not name {what}: write package.module:{example} or "
            f"path/file.py:{example}{_named(target) if what == 'a flow' else ''}"
        )
    try:
        with importing(target) if alone else importing_alone(target):
            module = _import(source)
            value = _attribute(module, source, name)
            if calls and inspect.isroutine(value):
                value = _make(value, target)
    except DefinitionError as exc:
        raise TargetError(str(exc)) from exc
    return module, value


def _import(source: str) -> ModuleType:
    module = source
    if source.endswith(".py"):
        file = Path(source).resolve()
        if not file.is_file():
            raise TargetError(f"there is no file {source}")
        root, module = importable(file)
    else:
        root = Path.cwd()
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as exc:
        raise TargetError(f"cannot import {source}: {_error(exc)}") from exc


def importable(file: Path) -> tuple[Path, str]:
    """The folder from which a file is imported, and its name from there."""
    root, parts = file.parent, [file.stem]
    while (root / "__init__.py").exists():
        parts.insert(0, root.name)
        root = root.parent
    return root, ".".join(parts)


def _attribute(module: ModuleType, source: str, name: str) -> Any:
    value: object = module
    for part in name.split("."):
        if not hasattr(value, part):
            suggestion = closest(part, _candidates(value, module))
            raise TargetError(f"{source} has no {name!r}{suggestion}{_flows(module)}")
        value = getattr(value, part)
    return value


def _make(function: Callable[..., object], target: str) -> object:
    if inspect.iscoroutinefunction(function):
        raise TargetError(f"{target} is an async function, which makes no flow when it is called")
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError) as exc:
        raise TargetError(
            f"{target} is a function that cannot be called without arguments: {exc}"
        ) from exc
    try:
        return function()
    except (Exception, SystemExit) as exc:
        raise TargetError(f"{target} failed: {_error(exc)}") from exc


def _candidates(owner: object, module: ModuleType) -> Iterator[str]:
    """The names of possible targets: flows, and functions that may return one."""
    for name in dir(owner):
        value = getattr(owner, name, None)
        is_local = inspect.isfunction(value) and value.__module__ == module.__name__
        if not name.startswith("_") and (isinstance(value, Flow) or is_local):
            yield name


def _flows(module: ModuleType) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, Flow)]
    return f" (flows there: {', '.join(names)})" if names else ""


def _named(source: str) -> str:
    """The flows of a module that was named without a flow, if it can be imported."""
    try:
        with importing(source):
            return _flows(_import(source))
    except (TargetError, DefinitionError):
        return ""


def _kind(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return "a node" if isinstance(value, Node) else f"of type {type(value).__name__}"


def _error(exc: BaseException) -> str:
    """An error of the user's code in one line, with its location if that is in a user's file."""
    text = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
    if isinstance(exc, SyntaxError):
        return text
    text += _of_model(exc)
    frames = [
        frame
        for frame in traceback.extract_tb(exc.__traceback__)
        if not frame.filename.startswith("<") and frame.filename not in _OWN_FILES
    ]
    # The last line of the user's code, unless all frames are in libraries.
    shown = [frame for frame in frames if not frame.filename.startswith(_libraries())] or frames
    if not shown or f"{shown[-1].filename}:" in text:
        return text
    return f"{text} ({shown[-1].filename}, line {shown[-1].lineno})"


def _of_model(exc: BaseException) -> str:
    """A hint if a field was taken from the model itself: ``writes=Article.summary``."""
    model = getattr(exc, "obj", None)
    if not (isinstance(exc, AttributeError) and isinstance(model, type)):
        return ""
    if issubclass(model, BaseModel) and exc.name in model.model_fields:
        return f"; did you mean fields({model.__name__}).{exc.name}?"
    return ""


_OWN_FILES = {__file__, importlib.__file__}


@cache
def _libraries() -> tuple[str, ...]:
    """The folders of this library, and of installed packages."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = {str(Path(__file__).parents[1]), *map(sysconfig.get_path, names)}
    return tuple(os.path.join(folder, "") for folder in folders)
