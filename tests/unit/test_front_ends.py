"""Front ends use what is public: others can be written as command line and monitor are."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import pocoflow

ROOT = Path(pocoflow.__file__).parent
FILES = sorted(path for room in ("cli", "ui", "views") for path in (ROOT / room).rglob("*.py"))


def private(tree: ast.AST) -> Iterator[str]:
    """The private names of others that a module reads, calls or imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            owner = node.value
            if not (isinstance(owner, ast.Name) and owner.id in ("self", "cls")):
                yield f"{ast.unparse(node)}, line {node.lineno}"
        elif isinstance(node, ast.ImportFrom):
            names = [*(node.module or "").split("."), *(one.name for one in node.names)]
            yield from (
                f"import of {name}, line {node.lineno}" for name in names if is_private(name)
            )
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "setattr"):
            name = node.args[1]
            if isinstance(name, ast.Constant) and is_private(str(name.value)):
                yield f"{ast.unparse(node)}, line {node.lineno}"


def is_private(name: str) -> bool:
    """Whether a name is not for others."""
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_front_end_uses_nothing_private(path: Path) -> None:
    """No attribute, function or module of another that begins with an underscore."""
    found = [one for one in private(ast.parse(path.read_text("utf-8"))) if "_version" not in one]
    assert found == []


def test_what_is_private_is_found() -> None:
    """The test itself sees each way to it."""
    code = "flow._proof(); from a._b import c; from a import _d; getattr(x, '_e'); self.x._f = 1"
    assert len([*private(ast.parse(code))]) == 5
    assert [*private(ast.parse("self._x; cls._y; __version__; a.__name__"))] == []
