"""``Flow``: a graph of nodes, and the ways to run it."""

from pocoflow.flow.flow import Flow

__all__ = ["Flow"]
