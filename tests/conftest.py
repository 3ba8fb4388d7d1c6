"""What all tests share."""

import gc
import unittest
from typing import Any

import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Empty the garbage before a state machine.

    Hypothesis parses its source, and CPython 3.11 fails with "AST constructor recursion depth
    mismatch" if a finalizer that runs meanwhile parses something, too, as a traceback does.
    """
    kind: Any = getattr(item, "cls", None)
    if kind is not None and issubclass(kind, unittest.TestCase):
        gc.collect()
