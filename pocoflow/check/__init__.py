"""Validation: what can be proved of a flow before any of its nodes runs.

One module for each family of rules (``graph_rules``, ``type_rules`` with ``phases``,
``item_rules`` and ``name_rules``, ``data_rules``, ``storage_rules``), all of them functions from a
:class:`Subject`, the flow as the rules see it, to findings. What a node reads and writes comes from
its signature or from its source: ``reading`` solves the control-flow graph of a function
(``control``), which ``statements`` and ``uses`` draw, with what ``scope`` knows of its names. The
rules' texts are in ``rules``, the formats of ``pocoflow check`` in ``reports``. Nothing here runs a
node, and nothing is imported until a flow is validated.
"""

from __future__ import annotations

from pocoflow.check.proof import Proof
from pocoflow.check.subject import Subject

__all__ = ["Proof", "Subject"]
