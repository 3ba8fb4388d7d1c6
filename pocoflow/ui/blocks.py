"""The one component of the monitor, and what is put on the page with it.

Everything that a run has recorded goes through here or through ``st.code``, never through a call of
Streamlit that reads Markdown.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias

import streamlit as st

from pocoflow.ui.tables import Block
from pocoflow.ui.text import visible

Tone: TypeAlias = Literal["red", "yellow", "blue", "green", "gray", "quote", "plain"]

_HERE = Path(__file__).parent

_component = st.components.v2.component(
    "pocoflow_block",
    js=(_HERE / "blocks.js").read_text(encoding="utf-8"),
    css=(_HERE / "blocks.css").read_text(encoding="utf-8"),
)


def show(block: Block, *, key: str, on_open: Callable[[str], None] | None = None) -> None:
    """Put a table or facts on the page.

    Args:
        block: What ``tables`` made.
        key: The element's key.
        on_open: Called with the id of a row that was opened, before the page is drawn again.
    """

    def opened() -> None:
        given: Any = st.session_state.get(key)
        row = None if given is None else given.get("open")
        if on_open is not None and isinstance(row, str):
            on_open(row)

    _component(key=key, data=block, on_open_change=opened)


def notice(
    *text: str,
    key: str,
    title: str = "",
    tone: Tone = "blue",
) -> None:
    """Put a message on the page, as plain text."""
    role = "alert" if tone == "red" else "status"
    block = {"layout": "notice", "title": title, "tone": tone, "role": role}
    _component(key=key, data=block | {"text": [visible(line) for line in text]})
