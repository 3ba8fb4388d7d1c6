"""The decorator ``node`` and the module ``pocoflow.node``, in whatever order they are imported."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "imports",
    [
        "from pocoflow import node; from pocoflow.node import Node",
        "from pocoflow.node import Node; from pocoflow import node",
        "import pocoflow.node; from pocoflow.node import Node; node = pocoflow.node",
        "import pocoflow.nodes.decorator; from pocoflow import Node, node",
        "import importlib; importlib.import_module('pocoflow.node'); from pocoflow import *",
    ],
    ids=[
        "package first",
        "module first",
        "module as attribute",
        "decorator first",
        "import_module",
    ],
)
def test_the_decorator_and_the_module_share_a_name(imports: str) -> None:
    """``from pocoflow import node`` is the decorator, whenever the module is imported."""
    program = f"{imports}\n@node\ndef f() -> None: ...\nprint(isinstance(f, Node))"
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout == b"True\n"
