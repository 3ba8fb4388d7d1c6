"""The import path of the type of a function node, for factories that return one."""

from pocoflow.nodes.function import FunctionNode

__all__ = ["FunctionNode"]
