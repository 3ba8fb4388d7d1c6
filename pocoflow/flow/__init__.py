"""``Flow``: the ways to run what can be reached from a start node."""

from pocoflow.flow.flow import Flow

__all__ = ["Flow"]
