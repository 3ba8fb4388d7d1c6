"""The documented import path of what reads the answers of language models."""

from pocoflow.nodes.parsing import parse

__all__ = ["parse"]
