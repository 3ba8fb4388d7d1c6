"""The documented import path of the handle of a run in the background."""

from pocoflow.flow.handle import RunHandle

__all__ = ["RunHandle"]
