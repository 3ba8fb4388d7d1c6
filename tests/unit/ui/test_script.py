"""The script that Streamlit runs."""

from __future__ import annotations

import ast
from pathlib import Path

import pocoflow.ui


def test_nothing_stands_alone_in_the_script_of_the_page() -> None:
    """Streamlit puts on the page whatever stands on a line of its own, but the first text."""
    script = Path(pocoflow.ui.__file__).with_name("monitor.py")
    (first, *rest) = ast.parse(script.read_text(encoding="utf-8")).body
    assert isinstance(first, ast.Expr)
    alone = [one for one in rest if isinstance(one, ast.Expr)]
    assert [ast.unparse(one) for one in alone if not isinstance(one.value, ast.Call)] == []
