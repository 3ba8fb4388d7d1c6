"""The one component of the monitor, which ``Place`` puts on the page.

Everything that a run has recorded goes through it or through ``st.code``, never through a call of
Streamlit that reads Markdown.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

_HERE = Path(__file__).parent

component = st.components.v2.component(
    "pocoflow_block",
    js=(_HERE / "blocks.js").read_text(encoding="utf-8"),
    css=(_HERE / "blocks.css").read_text(encoding="utf-8"),
)
