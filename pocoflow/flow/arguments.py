"""The arguments and settings of a flow, checked where they are given."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any, cast

from pocoflow.address import check_name
from pocoflow.errors import DefinitionError
from pocoflow.messages import closest, short
from pocoflow.nodes.base import AnyNode, Composite, Node
from pocoflow.nodes.call_checks import not_a_node
from pocoflow.nodes.setting_checks import check_executor, is_time
from pocoflow.nodes.spending import Amounts, limits_of
from pocoflow.store.fields import FieldRef, is_fields, reference_of
from pocoflow.store.schema import make_schema
from pocoflow.store.schema.vouching import check_aliases


def _start(given: object) -> object:
    if not isinstance(given, Node):
        raise DefinitionError(f"Flow(start=...) takes a node, not {not_a_node(given)}")
    return given


def _max_steps(given: object) -> object:
    if type(given) is not int or given < 1:
        raise DefinitionError(f"Flow(max_steps={short(given)}): a whole number of at least 1")
    return given


def _seconds(given: object) -> object:
    if not is_time(given):
        raise DefinitionError(f"Flow(deadline={short(given)}): a number of seconds above 0")
    return given


def _folder(given: object) -> Path:
    if not isinstance(given, str | os.PathLike) or not os.fspath(given):
        raise DefinitionError(f"Flow(checkpoint_dir={short(given)}): the path of a folder")
    if (folder := Path(given)).is_file():
        raise DefinitionError(
            f"Flow(checkpoint_dir={short(given)}): there is a file of that name; give the path of "
            "a folder"
        )
    return folder


def _flag(name: str, given: object) -> bool:
    """A boolean.

    Raises:
        DefinitionError: It is neither ``True`` nor ``False``.
    """
    if type(given) is not bool:
        raise DefinitionError(f"Flow({name}={short(given)}): True or False")
    return given


def _checked_by(check: Callable[..., object], *arguments: str) -> Callable[[object], object]:
    """Accepts unchanged what a check accepts."""

    def checked(given: object) -> object:
        check(*arguments, given)
        return given

    return checked


def aliases_of(given: Mapping[str, type] | None) -> dict[str, type]:
    """Classes by their other names, as ``Flow(aliases=...)`` takes them.

    Raises:
        DefinitionError: They are not classes by names.
    """
    check_aliases(given)
    return dict(given or {})


def names_before(given: object) -> tuple[str, ...]:
    """The previous names of a flow.

    Raises:
        DefinitionError: They are not a collection of names.
    """
    several: Any = given if isinstance(given, Iterable) and not isinstance(given, str) else (None,)
    names = tuple(several)
    if not all(type(name) is str and name for name in names):
        raise DefinitionError(
            f"Flow(formerly={short(given)}): names that the flow had before, as in "
            'formerly=("Old",)'
        )
    for name in names:
        check_name("a name in Flow(formerly=...)", name)
    return names


_WRITES = ("create_run", "update_run", "save_event", "save_checkpoint")
"""The methods of a database by which programs record runs that are not runs of a flow."""


def _database(given: object) -> object:
    """The path, URL or object of a database; a URL without its password."""
    if isinstance(given, str | os.PathLike):
        text = str(os.fspath(given))
        is_database = bool(text)
        if ":/" in text or "=" in text or text.startswith("~"):
            from pocoflow.db.postgres import refuse_other_names

            refuse_other_names(given)
    else:
        from pocoflow.db.workflow import WorkflowDB

        is_database = isinstance(given, WorkflowDB)
        for name in _WRITES if is_database else ():
            if getattr(type(given), name) is not getattr(WorkflowDB, name):
                raise DefinitionError(
                    f"Flow(db_path={short(given)}): {type(given).__name__}.{name} is never called "
                    "by a flow, which writes what belongs together in one commit: "
                    "flow.subscribe(listener) tells of every event after it"
                )
    if not is_database:
        raise DefinitionError(
            f"Flow(db_path={short(given)}): the path of an SQLite file, the URL of a PostgreSQL "
            "server, or a WorkflowDB"
        )
    if isinstance(given, str) and "://" in given:
        from pocoflow.db.postgres import is_server, without_password

        return without_password(given) if is_server(given) else given
    return given


def _carried(given: object) -> tuple[ContextVar[Any], ...]:
    single = isinstance(given, str | ContextVar) or not isinstance(given, Iterable)
    several: tuple[object, ...] = (given,) if single else tuple(cast("Iterable[object]", given))
    for variable in several:
        if not isinstance(variable, ContextVar):
            raise DefinitionError(f"Flow(carry=...) takes context variables, not {short(variable)}")
    return cast("tuple[ContextVar[Any], ...]", several)


def names_of(argument: str, given: Iterable[object] | None) -> tuple[str, ...] | None:
    """The keys that ``Flow(inputs=...)`` or ``Flow(outputs=...)`` names.

    Raises:
        DefinitionError: It is not a tuple of references to fields.
    """
    if given is None:
        return None
    single = (
        is_fields(given) or isinstance(given, FieldRef | str) or not isinstance(given, Iterable)
    )
    several: Any = (given,) if single else given
    names = [reference_of(f"Flow(...): {argument}", field).name for field in several]
    return tuple(dict.fromkeys(names))


def _label_budgets(given: object) -> Mapping[str, Amounts]:
    """The limits that ``Flow(label_budgets=...)`` sets, by the key of the label.

    Raises:
        DefinitionError: They are not budgets of labels.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(type(key) is str for key in given):
        raise DefinitionError(
            f"Flow(label_budgets={short(given)}): a budget for each of some labels, as in "
            'label_budgets={"customer": {"usd": 50.0}}'
        )
    return {key: limits_of(spec, f"budget of label {key!r}") or {} for key, spec in given.items()}


def _node_budgets(given: object) -> Mapping[AnyNode, Amounts]:
    """The limits that ``Flow(node_budgets=...)`` sets.

    Raises:
        DefinitionError: They are not budgets of nodes.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise DefinitionError(
            f"Flow(node_budgets={short(given)}): a budget for each of some nodes, as in "
            'node_budgets={write: {"usd": 0.5}}'
        )
    for node in given:
        if not isinstance(node, Node):
            raise DefinitionError(
                "Flow(node_budgets=...) takes a budget for each of some nodes, as in "
                f'node_budgets={{write: {{"usd": 0.5}}}}, not for {not_a_node(node)}'
            )
    whole = [node.name for node in given if issubclass(type(node), Composite)]
    if whole:
        raise DefinitionError(
            f"Flow(node_budgets=...) has one of {whole[0]!r}, which has other nodes inside: what "
            "these spend would not count in it; name them, or give the flow a budget="
        )
    budgets = {
        node: limits_of(spec, f"budget of node {node.name!r}") for node, spec in given.items()
    }
    return {node: limits for node, limits in budgets.items() if limits is not None}


def _codes(given: Collection[str]) -> tuple[str, ...]:
    """The codes of rules, or their prefixes, that ``Flow(ignore=...)`` names.

    Raises:
        DefinitionError: There is no such rule.
    """
    if not given:
        return ()
    from pocoflow.check.rules import RULES

    codes: tuple[Any, ...] = (given,) if isinstance(given, str) else tuple(given)
    for given_code in codes:
        code = given_code if isinstance(given_code, str) else ""
        if not code or not any(known.startswith(code.upper()) for known in RULES):
            raise DefinitionError(
                f"Flow(ignore=...) takes codes of rules, such as 'PF301' or 'PF3', "
                f"not {short(given_code)}{closest(given_code, RULES)}"
            )
    return tuple(given_code.upper() for given_code in codes)


def _as_names(argument: str, given: Any) -> tuple[str, ...] | None:
    """The keys, also in the form that a flow stores, so that flows can copy them."""
    if isinstance(given, tuple) and all(type(name) is str for name in given):
        return given
    return names_of(argument, given)


SETTINGS: Mapping[str, Callable[[Any], object]] = {
    "start": _start,
    "flow_name": _checked_by(check_name, "Flow(flow_name=...)"),
    "db_path": _database,
    "checkpoint_dir": _folder,
    "max_steps": _max_steps,
    "schema": _checked_by(make_schema),
    "inputs": partial(_as_names, "inputs"),
    "outputs": partial(_as_names, "outputs"),
    "ignore": _codes,
    "strict": partial(_flag, "strict"),
    "deadline": _seconds,
    "budget": partial(limits_of, where="Flow(budget)"),
    "node_budgets": _node_budgets,
    "thread_budget": partial(limits_of, where="Flow(thread_budget)"),
    "label_budgets": _label_budgets,
    "run_id": _checked_by(check_name, "Flow(run_id=...)"),
    "formerly": names_before,
    "aliases": aliases_of,
    "executor": _checked_by(check_executor, "Flow(executor=...)"),
    "carry": _carried,
    "record_emitted": partial(_flag, "record_emitted"),
}
"""The conversion of each setting from its argument; an error says what the setting takes."""

COMMON = {*SETTINGS, "schedules", "_database", "_hooks", "_proofs", "_settings"}
COMMON -= {"start", "node_budgets"}
"""What a flow shares with its deep copies, or creates for each copy."""

_OPTIONAL = {"schema", "db_path", "checkpoint_dir", "inputs", "outputs", "deadline", "run_id"}
_OPTIONAL |= {"budget", "thread_budget", "executor"}


def checked(name: str, given: object) -> object:
    """The value of a setting of a flow, converted from its argument.

    Raises:
        DefinitionError: It is not what the setting takes.
    """
    return None if given is None and name in _OPTIONAL else SETTINGS[name](given)
