"""The documented import path of an exception as a value."""

from pocoflow.values.failures import Failure

__all__ = ["Failure"]
