"""The documented import path of what wraps visits and attempts."""

from pocoflow.nodes.middleware import Around, Attempt, Visit

__all__ = ["Around", "Attempt", "Visit"]
