"""The documented import path of reducers."""

from pocoflow.store.reducing import Reducer, add, append, extend, item, latest, merge

__all__ = ["Reducer", "add", "append", "extend", "item", "latest", "merge"]
