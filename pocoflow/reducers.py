"""The documented import path of reducers."""

from pocoflow.store.reducing import (
    Reducer,
    add,
    append,
    extend,
    increments_between,
    item,
    latest,
    merge,
    metadata_of,
    reduced,
    reducers_of,
)

__all__ = [
    "Reducer",
    "add",
    "append",
    "extend",
    "increments_between",
    "item",
    "latest",
    "merge",
    "metadata_of",
    "reduced",
    "reducers_of",
]
