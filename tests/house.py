"""The measures of the house: ``python -m tests.house`` prints them, a unit test holds some.

Growth is a decision: who needs more lines than ``MOST`` takes as many away elsewhere, or raises it
and says why (docs/decisions/0044-size-has-a-bound.md).

Lines of code are those that hold something else than blanks, comments and docstrings.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

__all__ = [
    "FACES",
    "GROUND",
    "MOST",
    "PACKAGE",
    "anything",
    "code_lines",
    "kernel",
    "long_signatures",
    "measures",
    "modules",
    "names",
    "private",
    "rooms",
]

PACKAGE = Path(__file__).parents[1] / "pocoflow"
DESIGN = PACKAGE.parent / "docs" / "design.md"

MOST = {
    "lines of code in the package": 36_400,
    "lines of code to be read in an hour": 4_000,
    "times Any": 700,
    "functions with 7 or more parameters": 5,
    "private attributes of other objects": 0,
}
"""The bounds that a unit test holds."""

GROUND = ("_version", "address", "cleanup", "errors", "logging", "messages")
"""The files beside the rooms."""

FACES = ("events", "failure", "function", "middleware", "node", "parsing", "reducers", "runner")
"""Documented import paths of what lives in a room."""

_BETWEEN = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
_DOCUMENTED_NAMES = {
    *("_replace", "_asdict", "_fields", "_make", "_field_defaults"),  # of named tuples
    *("_name_", "_value_"),  # of enums
    "_getframe",  # of sys
}
"""What Python documents in spite of its underscore."""

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code_lines(file: Path) -> int:
    """How many lines of code a file has."""
    source = file.read_text(encoding="utf-8")
    documented: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        for text in _docstrings(node):
            documented.update(range(text.lineno, (text.end_lineno or text.lineno) + 1))
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _BETWEEN:
            found.update(range(token.start[0], token.end[0] + 1))
    return len(found - documented - {source.count("\n") + 1})


def _docstrings(node: ast.AST) -> Iterator[ast.stmt]:
    """The docstring of a module, a class or a function, and those of attributes (PEP 257)."""
    if not isinstance(node, _DOCUMENTED):
        return
    before: ast.stmt | None = None
    for text in node.body:
        value = text.value if isinstance(text, ast.Expr) else None
        is_text = isinstance(value, ast.Constant) and isinstance(value.value, str)
        if is_text and (before is None or isinstance(before, ast.Assign | ast.AnnAssign)):
            yield text
        before = text


def modules() -> Iterator[Path]:
    """Every module of the package."""
    yield from sorted(PACKAGE.rglob("*.py"))


def rooms() -> Counter[str]:
    """Lines of code by room; a file beside the rooms counts by its own name."""
    found: Counter[str] = Counter()
    for file in modules():
        found[file.relative_to(PACKAGE).parts[0].removesuffix(".py")] += code_lines(file)
    return found


def kernel() -> dict[str, int]:
    """Lines of code of the files that ``docs/design.md`` lists to be read in an hour."""
    text = (
        DESIGN.read_text(encoding="utf-8").partition("## Read in an hour")[2].partition("\n## ")[0]
    )
    return {
        name: code_lines(PACKAGE / name) for name in re.findall(r"^\| `([a-z_/]+\.py)`", text, re.M)
    }


def names() -> Counter[str]:
    """How many modules have a name; commands of the command line, and packages, aside."""
    files = (file.relative_to(PACKAGE) for file in modules())
    kept = (
        one
        for one in files
        if one.parts[0] not in ("cli", *(f"{face}.py" for face in FACES))
        and not one.stem.startswith("__")
    )
    return Counter(one.stem for one in kept)


def private() -> list[str]:
    """Uses of private attributes of objects whose class is in another module."""
    found = []
    for file in modules():
        tree = ast.parse(file.read_text(encoding="utf-8"))
        own = _attributes(tree)
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute) or not re.match(r"_[a-z]", node.attr):
                continue
            if node.attr in _DOCUMENTED_NAMES or node.attr in own:
                continue
            owner = ast.unparse(node.value)
            if owner not in ("self", "cls", "super()"):
                found.append(f"{file.relative_to(PACKAGE)}:{node.lineno} {ast.unparse(node)}")
    return found


def _attributes(tree: ast.Module) -> set[str]:
    """The attributes that the classes of a module define, in their bodies or by ``self``."""
    found = set[str]()
    for kind in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        for node in ast.walk(kind):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.update([node.attr] if ast.unparse(node.value) == "self" else [])
    return found


def long_signatures(most: int = 6) -> list[str]:
    """Functions with more parameters than that, ``self`` aside."""
    found = []
    for file in modules():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            given = node.args
            count = len(given.posonlyargs) + len(given.args) + len(given.kwonlyargs)
            first = (given.posonlyargs + given.args)[:1]
            count -= bool(first) and first[0].arg in ("self", "cls")
            if count > most:
                found.append(f"{file.relative_to(PACKAGE)}:{node.lineno} {node.name}: {count}")
    return found


def anything() -> int:
    """How often the package says ``Any``."""
    return sum(len(re.findall(r"\bAny\b", file.read_text(encoding="utf-8"))) for file in modules())


def measures() -> dict[str, int]:
    """What ``MOST`` bounds, as it is now."""
    found = (
        sum(rooms().values()),
        sum(kernel().values()),
        anything(),
        len(long_signatures()),
        len(private()),
    )
    return dict(zip(MOST, found, strict=True))


def _main() -> None:
    out = sys.stdout.write
    for room, lines in rooms().most_common():
        out(f"{lines:7} {room}\n")
    for what, count in measures().items():
        out(f"{count:7} {what} (at most {MOST[what]})\n")
    for one in (*long_signatures(), *private()):
        out(f"        {one}\n")


if __name__ == "__main__":
    _main()
