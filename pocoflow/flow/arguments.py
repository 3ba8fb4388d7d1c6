"""What a flow is made with, checked where it is given."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from pocoflow.address import check_name
from pocoflow.errors import DefinitionError
from pocoflow.messages import closest, short
from pocoflow.nodes.base import AnyNode, Node
from pocoflow.nodes.edges import reference_of
from pocoflow.nodes.porting import not_a_node
from pocoflow.nodes.settings import check_executor, is_time
from pocoflow.nodes.spending import Amounts, limits_of
from pocoflow.store.fields import FieldRef, is_fields


def check_arguments(start: object, max_steps: object, deadline: object, home: object) -> None:
    """Refuse what no flow is made with.

    Raises:
        DefinitionError: One of them makes no sense; the message says which.
    """
    if not isinstance(start, Node):
        raise DefinitionError(f"Flow(start=...) takes a node, not {not_a_node(start)}")
    if type(max_steps) is not int or max_steps < 1:
        raise DefinitionError(f"Flow(max_steps={max_steps!r}): a whole number of at least 1")
    if deadline is not None and not is_time(deadline):
        raise DefinitionError(f"Flow(deadline={deadline!r}): a number of seconds above 0")
    if home is not None:
        check_database(home)


def check_settings_of_runs(checkpoint_dir: object, **switches: object) -> None:
    """Refuse what says in no way how runs are kept, or ended.

    Raises:
        DefinitionError: The folder is none, or a switch is neither on nor off.
    """
    if checkpoint_dir is not None and not isinstance(checkpoint_dir, str | os.PathLike):
        raise DefinitionError(f"Flow(checkpoint_dir={short(checkpoint_dir)}): the path of a folder")
    for name, value in switches.items():
        if type(value) is not bool:
            raise DefinitionError(f"Flow({name}={short(value)}): True or False")


def names_before(given: object) -> tuple[str, ...]:
    """The names that a flow had before.

    Raises:
        DefinitionError: They are no collection of names.
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


def check_database(given: object) -> None:
    """Refuse what is no database of a flow.

    Raises:
        DefinitionError: It is neither a path nor a ``WorkflowDB``.
    """
    if isinstance(given, str | os.PathLike):
        text = str(os.fspath(given))
        is_one = bool(text)
        if ":/" in text or "=" in text:
            from pocoflow.db.postgres import refuse_other_names

            refuse_other_names(given)
    else:
        from pocoflow.db import WorkflowDB

        is_one = isinstance(given, WorkflowDB)
    if not is_one:
        raise DefinitionError(
            f"Flow(db_path={short(given)}): the path of an SQLite file, the URL of a PostgreSQL "
            "server, or a WorkflowDB"
        )


def carried(executor: object, given: Iterable[Any]) -> tuple[ContextVar[Any], ...]:
    """The context variables that travel to an executor, which is looked at, too.

    Raises:
        DefinitionError: It is none, or they are none.
    """
    if executor is not None:
        check_executor("Flow(executor=...)", executor)
    several = (given,) if isinstance(given, str | ContextVar) else tuple(given)
    for one in several:
        if not isinstance(one, ContextVar):
            raise DefinitionError(f"Flow(carry=...) takes context variables, not {short(one)}")
    return several


GivenT = TypeVar("GivenT")


def shown_path(given: GivenT) -> GivenT | str:
    """What names a database, without the password of a server."""
    if isinstance(given, str) and "://" in given:
        from pocoflow.db.postgres import is_server, without_password

        return without_password(given) if is_server(given) else given
    return given


def is_missing(given: object) -> bool:
    """Whether what names a database is a file that is not there."""
    if not isinstance(given, str | os.PathLike) or os.fspath(given) == ":memory:":
        return False
    return not ("://" in str(given) or Path(str(given)).exists())


def names_of(argument: str, given: Iterable[Any] | None) -> tuple[str, ...] | None:
    """The keys that ``Flow(inputs=...)`` or ``Flow(outputs=...)`` names.

    Raises:
        DefinitionError: It is not a tuple of references to fields.
    """
    if given is None:
        return None
    several: Any = (given,) if isinstance(given, FieldRef | str) or is_fields(given) else given
    names = [reference_of(f"Flow(...): {argument}", one).name for one in several]
    return tuple(dict.fromkeys(names))


def label_budgets_of(given: object) -> Mapping[str, Amounts]:
    """The limits that ``Flow(label_budgets=...)`` sets, by the key of the label.

    Raises:
        DefinitionError: They are no budgets of labels.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(type(one) is str for one in given):
        raise DefinitionError(
            f"Flow(label_budgets={short(given)}): a budget for each of some labels, as in "
            'label_budgets={"customer": {"usd": 50.0}}'
        )
    return {one: limits_of(own, f"budget of label {one!r}") or {} for one, own in given.items()}


def node_budgets_of(given: object) -> Mapping[AnyNode, Amounts]:
    """The limits that ``Flow(node_budgets=...)`` sets.

    Raises:
        DefinitionError: They are no budgets of nodes.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(one, Node) for one in given):
        raise DefinitionError(
            f"Flow(node_budgets={short(given)}): a budget for each of some nodes, as in "
            'node_budgets={write: {"usd": 0.5}}'
        )
    budgets = {one: limits_of(own, f"budget of node {one.name!r}") for one, own in given.items()}
    return {one: limits for one, limits in budgets.items() if limits is not None}


def codes_of(given: Collection[str]) -> tuple[str, ...]:
    """The codes of rules, or their beginnings, that ``Flow(ignore=...)`` names.

    Raises:
        DefinitionError: There is no such rule.
    """
    if not given:
        return ()
    from pocoflow.check.rules import RULES

    codes: tuple[Any, ...] = (given,) if isinstance(given, str) else tuple(given)
    for one in codes:
        code = one if isinstance(one, str) else ""
        if not code or not any(known.startswith(code.upper()) for known in RULES):
            raise DefinitionError(
                f"Flow(ignore=...) takes codes of rules, such as 'PF301' or 'PF3', "
                f"not {short(one)}{closest(one, RULES)}"
            )
    return tuple(one.upper() for one in codes)
