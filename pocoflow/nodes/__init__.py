"""Nodes: classes and functions, their settings and edges, questions, resources, context."""
