"""Validation: what can be proved about a flow before any of its nodes runs.

A module for each family of rules (``graph_rules`` with ``bounds``, ``order_rules`` and
``budget_rules``, ``type_rules`` with ``class_rules`` and ``item_rules``, ``data_rules`` with
``branch_rules``, ``input_rules``, ``storage_rules`` with ``call_rules``), all of them functions
from a :class:`Subject`, the flow as the rules see it, to findings. What a node reads and writes
comes from its signature or from its source: ``store_use`` solves the control-flow graph of its
functions (``control``), which ``statements`` and ``uses`` build with the names in ``scope``, and
``flat`` solves that of the flow with the same solver. The result that a flow has no errors is
cached for flows that are built alike (``alike``). The texts of the rules are in ``rules``, the
formats of ``pocoflow check`` in ``report_formats``. Nothing here runs a node, and nothing is
imported until a flow is validated.
"""
