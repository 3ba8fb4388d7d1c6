"""The effects of expressions on the store, as steps of the control-flow graph."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from pocoflow.check.control import Chart, Does, Keys, Lacks, Step
from pocoflow.check.node_effects import NOWHERE, Location, Value
from pocoflow.check.scope import NOTHING_RETURNED, Owner, Scope, Sort, Target
from pocoflow.check.source import is_a
from pocoflow.errors import InvalidValueError, MissingKeyError, UnknownFieldError
from pocoflow.store.store import Store

_DEPTH, _STEPS = 8, 6000  # how far calls are followed
_KEYED: dict[str, tuple[Does, ...]] = {
    "get": ("look",),
    "pop": ("look", "remove"),
    "recheck": ("read",),
    "reduce": ("read", "increment"),
    "setdefault": ("default",),
}
_LOOKS_AT_ALL = ("as_dict", "items", "keys", "snapshot", "to_model", "validate", "values")
_CHANGING = ("append", "extend", "insert")  # of lists; a client may have an `add`
_HARMLESS = ("add_observer", "name", "remove_observer", "schema", "unsaved")
_ONLY_READS = (
    *(all, any, bool, dict, enumerate, getattr, hasattr, isinstance, iter, len, list, max, min),
    *(print, repr, set, sorted, str, tuple, type, zip),
)
_INNER = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_LOOPS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_ANY = (BaseException,)
_REFUSALS = (UnknownFieldError, InvalidValueError)
_ERRORS: dict[str, tuple[type[BaseException], ...]] = {
    "read": (MissingKeyError,),
    "take": (MissingKeyError,),
    "write": _REFUSALS,
    "increment": _REFUSALS,
    "default": _REFUSALS,
}


Takes: TypeAlias = tuple[type[BaseException], ...] | None
"""The exceptions that a handler catches; ``None`` if unknown."""


@dataclass
class Around:
    """An enclosing block of the statements that are read.

    Attributes:
        landings: The targets of exceptions, with their classes.
        is_handler: Whether they are handled there; otherwise they propagate from there.
        last: The ``finally`` of the block.
        head, breaks: Of a loop: its head, and the steps that leave it.
    """

    landings: Sequence[tuple[int, Takes]] = ()
    is_handler: bool = False
    last: Sequence[ast.stmt] = ()
    head: int | None = None
    breaks: list[int] = field(default_factory=list)

    def takes(self, errors: Sequence[type[BaseException]]) -> bool:
        """Whether some of these errors may be handled here."""
        landings = self.landings if self.is_handler else ()
        return any(_may_take(kinds, errors) for _, kinds in landings)


def _since(found: Does) -> Does:
    """The result of a test some time later: an absent key may be present now."""
    return "likely" if found == "present" else "nothing"


def _arguments(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(keyword.value for keyword in call.keywords)]


def _may_take(kinds: Takes, errors: Sequence[type[BaseException]]) -> bool:
    return kinds is None or not errors or any(issubclass(error, kinds) for error in errors)


class Return(NamedTuple):
    """An exit of a function: its possible actions, the steps before it, and the location."""

    choices: frozenset[str]
    at: list[int]
    location: Location = NOWHERE
    lacks: Lacks = None


class Uses:
    """Builds the graph of functions, expression by expression; ``Statements`` does the rest.

    Args:
        owner: The class of the node.
        attributes: The attributes that the model of the store defines besides its fields.
        keys: The keys that are named.

    Attributes:
        at: The current steps; empty after a ``return``.
        scope: The function that is read.
        returns: Its exits.
        reads_all: Whether every key may be read, in any way.
    """

    scope: Scope

    def __init__(self, owner: Owner, attributes: frozenset[str], keys: Keys) -> None:
        self.chart = Chart(keys)
        self.owner = owner
        self.at: list[int] = [0]
        self.around: list[Around] = []
        self.base = 0  # the index of the first block of the current function
        self.returns: list[Return] = []
        self.reads_all = False
        self._attributes = attributes
        self._calls: list[object] = []

    def body(self, body: Sequence[ast.stmt]) -> None:
        """Read statements."""
        raise NotImplementedError

    # -- the graph ------------------------------------------------------------------------------

    def location(self, node: object) -> Location:
        """The location of a node in the source."""
        return Location(self.scope.function.__code__.co_filename, getattr(node, "lineno", 0))

    def step(
        self, does: Does, key: str | None = None, node: ast.AST | None = None, value: object = None
    ) -> None:
        """Add a step here."""
        if not self.at:
            return
        is_use = does in _ERRORS
        if is_use:
            self._may_refuse(does, value, key)
        step = Step(does, key, self.location(node), value)
        step.is_guarded = is_use and any(block.takes(_ERRORS[does]) for block in self.around)
        self.at = [self.chart.add(step, self.at)]

    def may_raise(
        self, errors: Sequence[type[BaseException]] = (), missing: str | None = None
    ) -> None:
        """Add edges for an exception that may be raised here: of some classes, or any.

        Args:
            errors: The classes.
            missing: The key that is absent if one of them is raised.
        """
        before = self.at
        for around in reversed(self.around):
            for landing, kinds in around.landings:
                if _may_take(kinds, errors):
                    if missing is not None:
                        self.at = [self.chart.add(Step("failed", missing), before)]
                    self.lead_to(landing)
                    self.at = before
                if kinds is not None and all(issubclass(e, kinds) for e in errors or _ANY):
                    return

    def _may_refuse(self, does: Does, value: object, key: str | None) -> None:
        """Add edges for a refusal of the store; for a constant, it depends on the schema."""
        before = self.at
        if isinstance(value, Value) and value.kind is value.parameter is None:
            self.at = [self.chart.add(Step("ask"), before)]
        self.may_raise(_ERRORS[does], key if does in ("read", "take") else None)
        self.at = before

    def loop_head(self) -> int:
        """A joint here, to which a loop leads back."""
        head = self.joint()
        self.lead_to(head)
        self.at = [head]
        return head

    def joint(self) -> int:
        """A new step where several paths meet."""
        return self.chart.add(Step("nothing"), ())

    def lead_to(self, joint: int) -> None:
        """Continue at a joint."""
        for previous in self.at:
            self.chart.link(previous, joint)

    def unknown(self) -> None:
        """From here on, anything may be done to the store."""
        self.reads_all = True
        if self.at:
            self.may_raise()
            self.step("unknown")

    def _asks(self, node: ast.AST) -> bool:
        """Whether a test depends on the schema, the attributes of the store, or a setting."""
        match node:
            case ast.Attribute(value=owner):
                sort = self.scope.sort(owner)
                return sort is Sort.SELF or (sort is Sort.STORE and node.attr == "schema")
            case ast.Call(func=ast.Name(id="hasattr"), args=[owner, _]):
                return self.scope.is_store(owner)
            case _:
                return False

    # -- expressions ----------------------------------------------------------------------------

    def expressions(self, nodes: Iterable[ast.AST | None]) -> None:
        """Read expressions, one after the other."""
        for node in nodes:
            self.expression(node)

    def expression(self, node: ast.AST | None) -> None:  # noqa: C901 - one per kind
        """Read an expression, in the order of its evaluation."""
        scope = self.scope
        match node:
            case None | ast.Constant():
                return
            case ast.NamedExpr(target=target, value=value):
                if not (scope.names_store(target) and scope.is_store(value)):
                    self.expression(value)
            case _ if scope.is_store(node):
                self.unknown()
            case _ if self.item("read", node):
                return
            case ast.Attribute(value=owner, attr=name) if scope.is_store(owner):
                if scope.sort(owner) is Sort.STORE and (name not in _HARMLESS or name == "name"):
                    self.unknown_attribute(name, node)
                elif scope.sort(owner) is Sort.STORES or name not in _HARMLESS:
                    self.unknown()
            case ast.Call():
                self._call(node)
            case ast.Await(value=ast.Call() as call):
                self._call(call, is_awaited=True)
            case ast.Compare():
                self._compare(node)
            case ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
                self._joined(self.test(node))
            case ast.IfExp(test=test, body=body, orelse=other):
                self.either(test, lambda: self.expression(body), lambda: self.expression(other))
            case ast.Starred(value=owner) | ast.FormattedValue(value=owner):
                self._whole(owner)
            case ast.Dict(keys=keys, values=values):
                for key, value in zip(keys, values, strict=True):
                    self.expressions((key, value) if key is not None else ())
                    self._whole(value if key is None else None)
            case _ if isinstance(node, _INNER):
                if self._mentions(node):
                    self.unknown()
            case _ if isinstance(node, _LOOPS):
                self._comprehension(node)
            case ast.Name():
                return
            case _:
                self.expressions(ast.iter_child_nodes(node))
                self.may_raise()

    def _whole(self, node: ast.AST | None) -> None:
        """Read an expression of which only the items, or the text, are used."""
        if self.scope.is_store(node):
            self.reads_all = True
        else:
            self.expression(node)

    def _mentions(self, node: ast.AST) -> bool:
        own = {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)}
        names = (p for p in ast.walk(node) if isinstance(p, ast.Name) and p.id not in own)
        return any(self.scope.is_store(name) for name in names)

    def key(self, node: ast.expr) -> None:
        """Read the expression of a key, unless it is known."""
        if self.scope.key(node) is None:
            self.expression(node)

    def item(self, does: Does, node: ast.AST, value: Value | None = None) -> bool:
        """Add a step for ``store[key]``, or ``store.state.key``, if an expression is one."""
        match node:
            case ast.Subscript(value=owner, slice=key) if self.scope.is_store(owner):
                self.key(key)
                if self.scope.sort(owner) is Sort.STORE:
                    self.use(does, self.scope.key(key), node, value)
                else:
                    self.unknown()
            case ast.Attribute(value=owner, attr=name) if self.scope.is_state(owner):
                if name not in self._attributes:
                    self.use(does, name, node, value)
                elif does == "read":
                    self.reads_all = True
                    self.may_raise()
                else:
                    self.unknown()
            case _:
                return False
        return True

    def use(self, does: Does, key: str | None, node: ast.AST, value: Value | None = None) -> None:
        """Add a step for a use of a key; ``None`` is an unknown key."""
        if key is not None:
            self.step(does, key, node, value)
        elif does in ("read", "look"):
            self.reads_all = True
            self.may_raise()
        else:
            self.unknown()

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
    ) -> None:
        first, *more = node.generators
        self._whole(first.iter)
        self.may_raise()
        head = self.loop_head()
        for number, generator in enumerate([first, *more]):
            if number:
                self._whole(generator.iter)
            self.expressions(generator.ifs)
        self.expressions(getattr(node, part, None) for part in ("key", "value", "elt"))
        self.lead_to(head)
        self.at = [head]

    # -- tests ----------------------------------------------------------------------------------

    def _joined(self, ways: tuple[list[int], list[int]]) -> None:
        self.at = list(dict.fromkeys([*ways[0], *ways[1]]))

    def either(self, test: ast.expr, body: Callable[[], None], other: Callable[[], None]) -> None:
        """Read a test and both of its branches."""
        yes, no = self.test(test)
        self.at = yes
        body()
        ends = self.at
        self.at = no
        other()
        self._joined((ends, self.at))

    def test(self, node: ast.expr) -> tuple[list[int], list[int]]:
        """Read an expression as a test: the steps if it holds, and the steps if it does not."""
        match node:
            case ast.UnaryOp(op=ast.Not(), operand=inner):
                yes, no = self.test(inner)
                return no, yes
            case ast.BoolOp(op=op, values=values):
                return self._several(isinstance(op, ast.And), values)
            case ast.Constant(value=value):
                return (self.at, []) if value else ([], self.at)
            case _:
                pass
        if self.scope.is_store(node):
            self.reads_all = True
            return self.at, self.at
        self.expression(node)
        if any(self._asks(part) for part in ast.walk(node)):
            self.step("ask")
        before, found = self.at, self._asks_for(node)
        if found is None or not before:
            return before, before
        key, when, other = found
        return self._found(when, key, node, before), self._found(other, key, node, before)

    def _found(self, does: Does, key: str, node: ast.AST, before: list[int]) -> list[int]:
        return [self.chart.add(Step(does, key, self.location(node)), before)]

    def _several(self, is_all: bool, values: Sequence[ast.expr]) -> tuple[list[int], list[int]]:
        left: list[int] = []
        for value in values:
            yes, no = self.test(value)
            self.at, out = (yes, no) if is_all else (no, yes)
            left = list(dict.fromkeys([*left, *out]))
        return (self.at, left) if is_all else (left, self.at)

    def _asks_for(self, node: ast.expr) -> tuple[str, Does, Does] | None:
        """The key that an expression tests for, and the steps if the test holds, and if not."""
        scope = self.scope
        while isinstance(node, ast.NamedExpr):
            node = node.value
        match node:
            case ast.Compare(left=left, ops=[ast.In() | ast.NotIn() as op], comparators=[right]):
                key = scope.key(left) if scope.sort(right) is Sort.STORE else None
                found: tuple[Does, Does] = ("present", "absent")
                is_in = isinstance(op, ast.In)
                return None if key is None else (key, *(found if is_in else found[::-1]))
            case ast.Compare(
                left=left,
                ops=[ast.Is() | ast.IsNot() as op],
                comparators=[ast.Constant(value=None)],
            ):
                inner = self._asks_for(left)
                if inner is None or inner[2] != "nothing":
                    return None
                key, there, _ = inner
                not_there: Does = "vague" if there == "present" else "nothing"
                is_not = isinstance(op, ast.IsNot)
                return (key, there, not_there) if is_not else (key, not_there, there)
            case ast.Call(func=ast.Attribute(value=owner, attr="get"), args=[arg], keywords=[]):
                key = scope.key(arg) if scope.sort(owner) is Sort.STORE else None
                return None if key is None else (key, "present", "nothing")
            case ast.Name(id=name):
                inner = scope.ask_of(name, self._asks_for)
                return None if inner is None else (inner[0], _since(inner[1]), _since(inner[2]))
            case _:
                return None

    def _compare(self, node: ast.Compare) -> None:
        self._whole(node.left)
        for op, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(op, (ast.In, ast.NotIn)) and self.scope.sort(right) is Sort.STORE:
                self.use("look", self.scope.key(node.left), node)
            else:
                self._whole(right)
        self.may_raise()

    # -- calls ----------------------------------------------------------------------------------

    def _call(self, node: ast.Call, *, is_awaited: bool = False) -> None:
        scope, called = self.scope, node.func
        if isinstance(called, ast.Attribute):
            owner, name = called.value, called.attr
            if scope.sort(owner) is Sort.STORE:
                self._method(name, node)
                return
            if scope.sort(owner) is Sort.STATE and name in self._attributes:
                self.expressions(_arguments(node))
                self.unknown()
                return
            if name in _CHANGING:
                self._change(owner)
        if not self._passes(node):
            self.expression(called)
            self.expressions(_arguments(node))
            if self.scope.error(called) is None:
                self.may_raise()
            return
        if self._named_attribute(node):
            return
        if scope.called(called) in _ONLY_READS:
            self.reads_all = self.reads_all or scope.called(called) is not isinstance
            for given in node.args:
                self._whole(given)
            self.expressions(keyword.value for keyword in node.keywords)
            return
        self.follow(node, is_awaited=is_awaited)
        for end in self.followed:
            self.at = list(dict.fromkeys([*self.at, *end.at]))

    def _named_attribute(self, node: ast.Call) -> bool:
        """Add a step for ``getattr(store.state, "key")`` and the like, with a known name."""
        match node:
            case ast.Call(args=[owner, name, *rest], keywords=[]) if self.scope.is_state(owner):
                key, called = self.scope.key(name), self.scope.called(node.func)
            case _:
                return False
        does: dict[object, Does] = {
            getattr: "look" if rest else "read",
            hasattr: "look",
            setattr: "write",
            delattr: "take",
        }
        if key is None or key in self._attributes or called not in does:
            return False
        self.expressions(rest)
        self.use(does[called], key, node, self.value(rest[0]) if rest else None)
        return True

    def _passes(self, node: ast.Call) -> bool:
        """Whether a call passes the store, or something that contains it."""
        parts = (arg.value if isinstance(arg, ast.Starred) else arg for arg in _arguments(node))
        return any(map(self.scope.is_store, parts))

    def follow(self, node: ast.Call, *, is_awaited: bool = False) -> None:
        """Read a function that is called with the store; ``followed`` has its exits."""
        for arg in _arguments(node):
            if not self.scope.is_store(arg):
                self.expression(arg)
        self.followed: list[Return] = []
        target = self.scope.target(node.func)
        inner = None if target is None else self._scope_of(target, node, is_awaited)
        if inner is None:
            self.unknown()
            return
        before = self.scope, self.base, self.returns
        self.scope, self.base, self.returns = inner, len(self.around), []
        self._calls.append(inner.function.__code__)
        self.body(inner.node.body)
        self.returns.append(Return(NOTHING_RETURNED, self.at))
        self._calls.pop()
        self.followed = self.returns
        self.at = []
        self.scope, self.base, self.returns = before

    def _scope_of(self, target: Target, node: ast.Call, is_awaited: bool) -> Scope | None:
        function, first = target
        code = function.__code__
        if len(self._calls) >= _DEPTH or len(self.chart.steps) > _STEPS or code in self._calls:
            return None
        if is_awaited != bool(code.co_flags & inspect.CO_COROUTINE):
            return None
        given: dict[str, Value | None] = {}
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        values = [] if first is None else [first]
        try:
            bound = inspect.signature(function, follow_wrapped=False).bind(
                *values,
                *(None if isinstance(arg, ast.Starred) else self._given(arg) for arg in node.args),
                **{str(keyword.arg): self._given(keyword.value) for keyword in node.keywords},
            )
        except (TypeError, ValueError):
            return None
        if not bound.arguments.keys() <= {*names} or any(
            isinstance(arg, ast.Starred) for arg in node.args
        ):
            return None
        for name in names:
            default = bound.signature.parameters[name].default
            given[name] = Value(default) if type(default) is str else None
        inner = Scope.of(function, {**given, **bound.arguments}, self.owner)
        return None if inner is None or inner.is_lost or inner.is_generator else inner

    def _given(self, node: ast.expr) -> Sort | Value | None:
        sort = self.scope.sort(node)
        value = self.scope.value(node) if sort is None else None
        return sort or (None if value is not None and value.parameter else value)

    # -- the methods of a store -----------------------------------------------------------------

    def _method(self, name: str, call: ast.Call) -> None:
        if name in ("put", "update"):
            self.update(call, is_put=name == "put")
            return
        for arg in _arguments(call):
            if not self.scope.is_store(arg):
                self._whole(arg.value if isinstance(arg, ast.Starred) else arg)
        key = self.scope.key(call.args[0]) if call.args else None
        has_default = len(call.args) > 1 or bool(call.keywords)
        if name in _KEYED:
            value = self.value(call.args[1]) if call.args[1:] else None
            for does in ("take",) if name == "pop" and not has_default else _KEYED[name]:
                self.use(does, key, call, value if does == "default" else None)
        elif name == "clear":
            self.step("clear")
        elif name in _LOOKS_AT_ALL:
            self.reads_all = True
            self.may_raise()
        elif name not in _HARMLESS:
            self.unknown_attribute(name, call)

    def unknown_attribute(self, name: str, node: ast.AST) -> None:
        """Add a step for an attribute that the store does not have, as far as is known."""
        if name == "name":  # that of the store, or a field of the schema
            self.step("unknown_attribute", name, node)
            return
        if not (hasattr(Store, name) or name in _HARMLESS or name[:1] == "_"):
            self.step("unknown_attribute", name, node)
        self.unknown()

    def update(self, call: ast.Call, *, is_put: bool = False) -> None:
        """Add the steps of an ``update``: it writes all or nothing, after all evaluations."""
        found: list[tuple[str | None, ast.expr, ast.expr | None]] = []
        for argument in call.args:
            match argument:
                case ast.Dict(keys=keys, values=values):
                    self.expression(argument)
                    for key, part in zip(keys, values, strict=True):
                        found.append((None if key is None else self.scope.key(key), part, part))
                case _:
                    self._whole(argument)
                    found.append((None, argument, None))
        for named in call.keywords:
            self._whole(named.value)
            found.append((named.arg, named.value, named.value))
        self.may_raise(_REFUSALS)
        for name, node, value in found:
            if is_put:
                self.use("increment", name, node)
            else:
                self.use("write", name, node, self.value(value))

    def value(self, node: ast.expr | None) -> Value | None:
        """What is known about a value that is written."""
        if isinstance(node, ast.Name) and not self._calls and self.scope.is_parameter(node.id):
            return Value(parameter=node.id)
        return self.scope.value(node)

    def _change(self, node: ast.AST) -> None:
        """Add a step for a change in place of the value of a key or of a part of it."""
        while isinstance(node, ast.Subscript) and not self.scope.is_store(node.value):
            node = node.value
        match node:
            case ast.Subscript(value=owner, slice=name) if self.scope.sort(owner) is Sort.STORE:
                key = self.scope.key(name)
            case ast.Attribute(value=owner, attr=key) if self.scope.sort(owner) is Sort.STATE:
                pass
            case _:
                key = None
        if key is not None:
            self.step("change", key, node)

    def caught(self, kinds: Iterable[ast.expr | None]) -> Takes:
        """The errors that a handler of these classes catches."""
        found = []
        for expression in kinds:
            kind = BaseException if expression is None else self.scope.object(expression)
            if not (is_a(kind, type) and issubclass(kind, BaseException)):
                return None
            found.append(kind)
        return tuple(found)
