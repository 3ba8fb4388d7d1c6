"""A node that waits for its test."""

from __future__ import annotations

import threading
from typing import Any

from pocoflow import Node

__all__ = ["Gate"]


class Gate(Node):
    """Says that its ``exec`` has begun, and waits there until it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.opened = threading.Event(), threading.Event()

    def exec(self, prep_result: Any) -> None:
        self.entered.set()
        assert self.opened.wait(60)
