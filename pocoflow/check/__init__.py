"""Validation: what can be proved of a flow before any of its nodes runs.

A module for each family of rules (``graph_rules`` with ``bounds``, ``order_rules`` and
``budget_rules``, ``type_rules`` with ``class_rules`` and ``item_rules``, ``data_rules`` with
``branch_rules``, ``input_rules``, ``storage_rules`` with ``call_rules``), all of them functions
from a :class:`Subject`, the flow as the rules see it, to findings. What a node reads and writes
comes from its signature or from its source: ``store_use`` solves the control-flow graph of its
functions (``control``), which ``statements`` and ``uses`` draw, with what ``scope`` knows of its
names, and ``flat`` that of the flow, by the same solver. That a flow has no errors is kept for
those that are made alike (``alike``). The rules' texts are in ``rules``, the formats of ``pocoflow
check`` in ``report_formats``. Nothing here runs a node, and nothing is
imported until a flow is validated.
"""
