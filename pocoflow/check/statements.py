"""The ways through the statements of one function, and what has been written on each."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence

from pocoflow.check.effects import Exit
from pocoflow.check.uses import Point, Uses
from pocoflow.edges import DEFAULT_ACTION

__all__ = ["Statements"]


class Statements:
    """Follows the statements of a function from its beginning to its ways out.

    Attributes:
        exits: The ways out.
    """

    def __init__(self, uses: Uses, function: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._uses = uses
        self._exits: list[Exit] = []
        nothing: frozenset[str] = frozenset()
        end = self._block(function.body, Point(nothing, nothing, uses.writes_more, True))
        if end is not None:
            self._leave([DEFAULT_ACTION], end)
        self.exits = tuple(dict.fromkeys(self._exits))

    def _leave(self, actions: Iterable[str | None], at: Point) -> None:
        self._exits += [Exit(action, at.may, at.must, at.unknown) for action in actions]

    def _block(self, body: Sequence[ast.stmt], at: Point) -> Point | None:
        """What holds after a list of statements; ``None`` if nothing gets past them."""
        here: Point | None = at
        for statement in body:
            if here is None:
                return None
            here = self._statement(statement, here)
        return here

    def _statement(self, node: ast.stmt, at: Point) -> Point | None:  # noqa: C901 - one per kind
        uses = self._uses
        match node:
            case ast.Return(value=value):
                uses.expression(value, at)
                self._leave(_actions(value), at)
                return None
            case ast.Raise():
                uses.expression(node.exc, at)
                return None
            case ast.Break() | ast.Continue():
                return None
            case ast.Assign() if uses.names_state(node):
                return at
            case ast.Assign(targets=targets, value=value):
                uses.expression(value, at)
                for target in targets:
                    uses.assign(target, value, at)
            case ast.AnnAssign(target=target, value=value) if value is not None:
                uses.expression(value, at)
                uses.assign(target, value, at)
            case ast.AugAssign(target=target, value=value):
                uses.expression(_loaded(target), at)
                uses.expression(value, at)
                uses.assign(target, None, at)
            case ast.If(test=test, body=body, orelse=other):
                uses.expression(test, at)
                return self._either([body, other], at)
            case ast.For() | ast.AsyncFor() | ast.While():
                return self._loop(node, at)
            case ast.Try() | ast.TryStar():
                return self._try(node, at)
            case ast.With(items=items, body=body) | ast.AsyncWith(items=items, body=body):
                return self._with(items, body, at)
            case ast.Match(subject=subject, cases=cases):
                uses.expression(subject, at)
                ways = [case.body for case in cases]
                for case in cases:
                    uses.expression(case.guard, at.copy(sure=False))
                return self._either(ways if _is_complete(cases[-1]) else [*ways, []], at)
            case ast.Import() | ast.ImportFrom() | ast.Global() | ast.Nonlocal() | ast.Pass():
                return at
            case _:
                uses.expression(node, at)
        return at

    def _either(self, ways: Sequence[Sequence[ast.stmt]], at: Point) -> Point | None:
        exits = len(self._exits)
        ends = [self._block(way, at.copy(sure=False)) for way in ways]
        left = len(self._exits) > exits or any(_jumps(way) for way in ways)
        return _joined([one for one in ends if one is not None], at.sure and not left)

    def _loop(self, node: ast.For | ast.AsyncFor | ast.While, at: Point) -> Point | None:
        endless = False
        if isinstance(node, ast.While):
            self._uses.expression(node.test, at)
            endless = isinstance(node.test, ast.Constant) and bool(node.test.value)
        else:
            self._uses.expression(node.iter, at)
            self._uses.assign(node.target, None, at)
        after = self._perhaps(node.body, at)
        if endless and not _breaks(node.body):
            return None
        return self._block(node.orelse, after)

    def _perhaps(self, body: Sequence[ast.stmt], at: Point) -> Point:
        """After statements of which any part may have been executed."""
        exits = len(self._exits)
        inside = at.copy(sure=False)
        written, more = dict(self._uses.writes), self._uses.writes_more
        self._uses.writes = {}
        self._uses.writes_more = False
        self._block(body, inside)
        may = at.may | frozenset(self._uses.writes)
        unknown = at.unknown or self._uses.writes_more
        self._uses.writes = {**self._uses.writes, **written}
        self._uses.writes_more = self._uses.writes_more or more
        left = len(self._exits) > exits or _jumps(body)
        return Point(at.must, may, unknown, at.sure and not left)

    def _try(self, node: ast.Try | ast.TryStar, at: Point) -> Point | None:
        exits = len(self._exits)
        guarded = bool(node.handlers)
        self._uses.guarding += guarded
        broken = self._perhaps(node.body, at)
        del self._exits[exits:]  # the same ways are followed again, to their end
        whole = self._block(node.body, at.copy(sure=not guarded))
        self._uses.guarding -= guarded
        ends = [whole if whole is None else self._block(node.orelse, whole)]
        for handler in node.handlers:
            self._uses.expression(handler.type, broken.copy(sure=False))
            ends.append(self._block(handler.body, broken.copy(sure=False)))
        left = len(self._exits) > exits or any(_jumps(one.body) for one in node.handlers)
        here = _joined([one for one in ends if one is not None], broken.sure and not left)
        last = self._block(node.finalbody, here or broken.copy(sure=False))
        return None if here is None else last

    def _with(
        self, items: Sequence[ast.withitem], body: Sequence[ast.stmt], at: Point
    ) -> Point | None:
        for item in items:
            self._uses.expression(item.context_expr, at)
            if item.optional_vars is not None:
                self._uses.assign(item.optional_vars, None, at)
        # What comes after `with suppress(...)` may have seen only a part of its block.
        if any(_is_suppress(item.context_expr) for item in items):
            exits = len(self._exits)
            self._uses.guarding += 1
            part = self._perhaps(body, at)
            del self._exits[exits:]
            whole = self._block(body, at.copy(sure=False))
            self._uses.guarding -= 1
            return _joined([one for one in (part, whole) if one is not None], False)
        return self._block(body, at)


def _is_suppress(node: ast.expr) -> bool:
    match node:
        case ast.Call(func=ast.Name(id="suppress") | ast.Attribute(attr="suppress")):
            return True
        case _:
            return False


def _joined(ends: Sequence[Point], sure: bool) -> Point | None:
    if not ends:
        return None
    return Point(
        frozenset.intersection(*(one.must for one in ends)),
        frozenset().union(*(one.may for one in ends)),
        any(one.unknown for one in ends),
        sure,
    )


def _actions(value: ast.expr | None) -> list[str | None]:
    """The actions that a ``return`` may return, as far as they are constants."""
    match value:
        case None | ast.Constant(value=None):
            return [DEFAULT_ACTION]
        case ast.Constant(value=str() as text):
            return [text]
        case ast.IfExp(body=body, orelse=other):
            return [*_actions(body), *_actions(other)]
        case _:
            return [None]


def _loaded(target: ast.expr) -> ast.expr:
    """The target of ``x += 1`` as what is read there."""
    match target:
        case ast.Subscript(value=owner, slice=key):
            loaded: ast.expr = ast.Subscript(owner, key, ast.Load())
        case ast.Attribute(value=owner, attr=name):
            loaded = ast.Attribute(owner, name, ast.Load())
        case _:
            return target
    return ast.copy_location(loaded, target)


def _is_complete(case: ast.match_case) -> bool:
    pattern = case.pattern
    return case.guard is None and isinstance(pattern, ast.MatchAs) and pattern.pattern is None


def _breaks(body: Sequence[ast.stmt]) -> bool:
    return any(isinstance(node, ast.Break) for one in body for node in ast.walk(one))


def _jumps(body: Sequence[ast.stmt]) -> bool:
    kinds = (ast.Raise, ast.Break, ast.Continue)
    return any(isinstance(node, kinds) for one in body for node in ast.walk(one))
