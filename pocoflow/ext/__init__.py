"""Bridges to other libraries: each imports its own alone, and has an extra of its name."""
