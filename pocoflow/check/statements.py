"""The statements of a function as steps of its control-flow graph."""

from __future__ import annotations

import ast
import contextlib
import sys
from collections.abc import Sequence
from types import BuiltinFunctionType, CoroutineType, FunctionType, NoneType

from pocoflow.check.control import Lacks, Step
from pocoflow.check.node_effects import Location
from pocoflow.check.scope import NOTHING_RETURNED, Scope, Sort
from pocoflow.check.source import inner_parts, is_a, pairs_of
from pocoflow.check.uses import Around, Return, Takes, Uses

_JUMPS = (ast.Return, ast.Break, ast.Continue)
_SWALLOW = (contextlib.suppress, contextlib.ExitStack, contextlib.AsyncExitStack)


class Statements(Uses):
    """Builds the graph of a function, from its statements."""

    def function(self, scope: Scope | None) -> None:
        """Read a function, or an unknown one, and add its ends."""
        if scope is None:
            self.reads_all = True
            self.returns = [Return(frozenset(), [self.chart.add(Step("unknown"), self.at)])]
        else:
            self._function(scope, scope.node.body)
        for choices, at, location, lacks in self.returns:
            self.chart.add(Step("exit", None, location, choices, lacks=lacks), at)

    def _function(self, scope: Scope, body: Sequence[ast.stmt]) -> None:
        self.scope = scope
        choices = (ast.If, ast.Match)
        # Several choices may together cover all cases.
        self._is_only_choice = sum(isinstance(part, choices) for part in inner_parts(body)) == 1
        if scope.is_lost:
            self.unknown()
        if scope.is_generator:  # it may not be executed at all
            before = self.at
            self._leave(frozenset(), self.location(scope.node))
            self.at = before
        self.body(body)
        self._leave(NOTHING_RETURNED, self.location(body[-1]), "end")

    def body(self, body: Sequence[ast.stmt]) -> None:
        """Read statements as long as they are reachable."""
        for statement in body:
            if not self.at:
                return
            self._statement(statement)

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Return(value=value):
                self._return(value, node)
            case ast.Raise():
                self._raise(node)
            case ast.Break() | ast.Continue():
                self._jump(is_break=isinstance(node, ast.Break))
            case ast.If():
                self._if(node)
            case ast.While(test=test, body=body, orelse=other):
                self._while(test, body, other)
            case ast.For() | ast.AsyncFor():
                self._for(node)
            case ast.Try() | ast.TryStar():
                self._try(node)
            case ast.With(items=items, body=body) | ast.AsyncWith(items=items, body=body):
                self._with(items, body)
            case ast.Match():
                self._match(node)
            case _:
                self._simple(node)

    def _simple(self, node: ast.stmt) -> None:
        """Read a simple statement, after which the next one is executed."""
        match node:
            case ast.Expr(value=value):
                self._alone(value)
            case ast.Assign(targets=targets, value=value):
                self._assigned(targets, value)
            case ast.AnnAssign(target=target, value=value):
                self._assigned([target], value)
            case ast.AugAssign(op=ast.BitOr()) if self.scope.sort(node.target) is Sort.STORE:
                self.update(ast.Call(node.target, [node.value], []))
            case ast.AugAssign():
                self.expression(node.target)
                self.expression(node.value)
                self._assign(node.target, None)
            case ast.Delete():
                for item in node.targets:
                    self._delete(item)
            case ast.Assert(test=test, msg=message):
                yes, no = self.test(test)
                self.at = no
                self.expression(message)
                self.may_raise()
                self.at = yes
            case ast.Pass() | ast.Global() | ast.Nonlocal():
                pass
            case _:
                self.expression(node)
                self.may_raise()

    def _alone(self, value: ast.expr) -> None:
        """A call whose result is not used may never return."""
        self.expression(value)
        called: ast.expr | None = value.func if isinstance(value, ast.Call) else None
        while isinstance(called, (ast.Attribute, ast.Subscript)):
            called = called.value
        if not (
            isinstance(value, (ast.Constant, ast.Yield, ast.YieldFrom))
            or self.scope.is_store(called)
            or (called is not None and self.scope.called(called) is print)
        ):
            self.step("doubt")

    # -- exits ------------------------------------------------------------------------------------

    def _return(self, value: ast.expr | None, node: ast.stmt) -> None:
        match value:
            case None | ast.Constant(value=None):
                self._leave(NOTHING_RETURNED, self.location(node), "return")
            case ast.IfExp(test=test, body=body, orelse=other):
                ends = [lambda part=part: self._return(part, node) for part in (body, other)]
                self.either(test, *ends)
            case ast.Call() if self._passes(value):
                self._return_call(value, node)
            case ast.Await(value=ast.Call() as call) if self._passes(call):
                self._return_call(call, node, is_awaited=True)
            case _:
                self.expression(value)
                lacks: Lacks = "other" if self._is_no_action(value) else None
                self._leave(self.scope.choices(value), self.location(node), lacks)

    def _is_no_action(self, node: ast.expr) -> bool:
        """Whether a value is neither a non-empty text nor ``None``."""
        if self.scope.sort(node) is not None:  # the store, or the node
            return True
        value = self.scope.value(node)
        if value is None or value.parameter is not None:
            return False
        if value.kind is None:
            is_text = is_a(value.constant, str) and value.constant != ""
            return value.constant is not None and not is_text
        # A coroutine is awaited.
        may_be = (str, NoneType, CoroutineType)
        return isinstance(value.kind, type) and not issubclass(value.kind, may_be)

    def _return_call(self, call: ast.Call, node: ast.stmt, *, is_awaited: bool = False) -> None:
        """Return the result of a function that is read as well."""
        if self.scope.called(call.func) is not None:
            self.expression(call)
            self._leave(frozenset(), self.location(node))
            return
        self.follow(call, is_awaited=is_awaited)
        for end in self.followed or [Return(frozenset(), self.at)]:
            self.at = end.at
            self.step("doubt")
            self._leave(end.choices, self.location(node))

    def _leave(self, choices: frozenset[str], location: Location, lacks: Lacks = None) -> None:
        """Leave the function through each enclosing ``finally``."""
        self._unwind(self.base)
        if self.at:
            self.returns.append(Return(choices, self.at, location, lacks))
        self.at = []

    def _unwind(self, number: int) -> None:
        """Read the ``finally`` blocks of all blocks above a number."""
        blocks = self.around
        for count in range(len(blocks) - 1, number - 1, -1):
            if blocks[count].last and self.at:
                self.around = blocks[:count]
                self.body(blocks[count].last)
        self.around = blocks

    def _raise(self, node: ast.Raise) -> None:
        self.expressions((node.exc, node.cause))
        error = None
        if node.exc is not None:  # else it reraises
            self.step("raise", None, node)
            made = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            error = self.scope.error(made)
        self.may_raise(() if error is None else (error,))
        self.at = []

    def _jump(self, *, is_break: bool) -> None:
        """Leave a loop, or this iteration of it."""
        number = max(n for n, block in enumerate(self.around) if block.head is not None)
        loop = self.around[number]
        self._unwind(number + 1)
        if is_break:
            loop.breaks += self.at
        elif loop.head is not None:
            self.lead_to(loop.head)
        self.at = []

    # -- assignments ----------------------------------------------------------------------------

    def _assigned(self, targets: Sequence[ast.expr], value: ast.expr | None) -> None:
        if value is None:
            return
        pairs = (
            pairs_of(targets[0], value) if len(targets) == 1 else [(to, value) for to in targets]
        )
        rest = [(target, given) for target, given in pairs if not self.scope.names_store(target)]
        self.expressions(dict.fromkeys(given for _, given in rest))
        for target, given in rest:
            self._assign(target, given)

    def _assign(self, target: ast.expr, value: ast.expr | None) -> None:
        match target:
            case ast.Name():
                return
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                for part in parts:
                    self._assign(part, None)
            case ast.Starred(value=inner):
                self._assign(inner, None)
            case _ if self.item("write", target, self.value(value)):
                return
            case ast.Attribute(value=owner, attr=name) if self.scope.is_store(owner):
                if self.scope.sort(owner) is Sort.STORE:
                    self.unknown_attribute(name, target)
                else:
                    self.unknown()
            case ast.Subscript(value=owner, slice=key):
                self.expression(owner)
                self.expression(key)
                self._change(owner)
                self.may_raise()
            case _:
                self.expressions(ast.iter_child_nodes(target))
                self.may_raise()

    def _delete(self, target: ast.expr) -> None:
        if not isinstance(target, ast.Name) and not self.item("take", target):
            self.expressions(ast.iter_child_nodes(target))
            self.may_raise()

    # -- choices and loops ----------------------------------------------------------------------

    def _if(self, node: ast.If) -> None:
        ends: list[int] = []
        while True:  # along the elif branches, which may exceed Python's recursion limit
            yes, no = self.test(node.test)
            self.at = yes
            self.body(node.body)
            ends += self.at
            self.at = no
            match node.orelse:
                case [ast.If() as node] if no:
                    continue
                case other:
                    break
        self._rest(other)
        self._joined((ends, self.at))

    def _rest(self, other: Sequence[ast.stmt]) -> None:
        if not other and not self._is_only_choice:
            self.step("doubt")
        self.body(other)

    def _while(self, test: ast.expr, body: Sequence[ast.stmt], other: Sequence[ast.stmt]) -> None:
        head = self.loop_head()
        yes, no = self.test(test)
        self._loop(head, yes, no, body, other)

    def _for(self, node: ast.For | ast.AsyncFor) -> None:
        self._whole(node.iter)
        self.may_raise()
        before, head = self.at, self.joint()
        if not self._has_items(node.iter):
            self.lead_to(head)
            before = []
        self.at = [*before, head]
        self.may_raise()
        self._assign(node.target, None)
        self._loop(head, self.at, [head], node.body, node.orelse)

    def _has_items(self, node: ast.expr) -> bool:
        """Whether a loop certainly has a first iteration."""
        match node:
            case ast.Tuple(elts=[first, *_]) | ast.List(elts=[first, *_]):
                return not isinstance(first, ast.Starred)
            case ast.Call(func=called, args=[ast.Constant(value=int(count))]):
                return count > 0 and self.scope.called(called) is range
            case _:
                return False

    def _loop(
        self,
        head: int,
        inside: list[int],
        past: list[int],
        body: Sequence[ast.stmt],
        other: Sequence[ast.stmt],
    ) -> None:
        around = Around(head=head)
        self.around.append(around)
        self.at = inside
        self.body(body)
        self.lead_to(head)
        self.around.pop()
        self.at = past
        self.body(other)
        self.at = list(dict.fromkeys([*self.at, *around.breaks]))

    def _match(self, node: ast.Match) -> None:
        self._whole(node.subject)
        if any(self._asks(part) for part in ast.walk(node.subject)):
            self.step("ask")
        ends: list[int] = []
        for case in node.cases:
            before = self.at
            self.expressions(part for part in ast.walk(case.pattern) if isinstance(part, ast.expr))
            self.may_raise()
            yes, no = (self.at, []) if case.guard is None else self.test(case.guard)
            self.at = yes
            self.body(case.body)
            ends += self.at
            self.at = no if _takes_all(case.pattern) else list(dict.fromkeys([*before, *no]))
        if self.at:
            self.step("doubt")
        self.at = list(dict.fromkeys([*ends, *self.at]))

    # -- what exceptions take ---------------------------------------------------------------------

    def _try(self, node: ast.Try | ast.TryStar) -> None:
        # A `finally` with a jump ends every exception.
        ends_all = any(isinstance(part, _JUMPS) for part in inner_parts(node.finalbody))
        past = self.joint()
        last = Around([(past, (BaseException,))], is_handler=ends_all, last=node.finalbody)
        if node.finalbody:
            self.around.append(last)
        landings = [(self.joint(), self._caught_by(handler)) for handler in node.handlers]
        self.around.append(Around(landings, is_handler=True))
        self.body(node.body)
        self.around.pop()
        self.body(node.orelse)
        ends = self.at
        for (landing, _), handler in zip(landings, node.handlers, strict=True):
            self.at = [landing]
            self.expression(handler.type)
            self.body(handler.body)
            ends = [*ends, *self.at]
        self.at = list(dict.fromkeys(ends))
        if node.finalbody:
            self.around.pop()
            self.body(node.finalbody)
            ends, self.at = self.at, [past]
            self.body(node.finalbody)
            self.may_raise()
            self.at = ends

    def _caught_by(self, handler: ast.ExceptHandler) -> Takes:
        kinds = handler.type
        return self.caught(kinds.elts if isinstance(kinds, ast.Tuple) else [kinds])

    def _with(self, items: Sequence[ast.withitem], body: Sequence[ast.stmt]) -> None:
        blocks = []
        for item in items:
            self.expression(item.context_expr)
            self.may_raise()
            if item.optional_vars is not None:
                self._assign(item.optional_vars, None)
            takes = self._swallows(item.context_expr)
            if takes != ():
                blocks.append(Around([(self.joint(), takes)], is_handler=True))
                self.around.append(blocks[-1])
        self.body(body)
        for block in reversed(blocks):
            self.around.pop()
            ends, self.at = self.at, [block.landings[0][0]]
            self.step("doubt")
            self.at = [*ends, *self.at]

    def _swallows(self, node: ast.expr) -> Takes:
        """The errors that a ``with`` may suppress; empty if it suppresses none."""
        made: object = self.scope.object(node.func) if isinstance(node, ast.Call) else None
        if made is contextlib.suppress and isinstance(node, ast.Call):
            return self.caught(node.args)
        module = made.__module__ if is_a(made, (type, FunctionType, BuiltinFunctionType)) else None
        is_known = (module or "").partition(".")[0] in sys.stdlib_module_names
        return () if is_known and made not in _SWALLOW else None


def _takes_all(pattern: ast.pattern) -> bool:
    match pattern:
        case ast.MatchAs(pattern=None):
            return True
        case ast.MatchAs(pattern=ast.pattern() as inner):
            return _takes_all(inner)
        case ast.MatchOr(patterns=patterns):
            return any(map(_takes_all, patterns))
        case _:
            return False
