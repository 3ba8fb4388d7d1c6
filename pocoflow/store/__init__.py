"""The store of a run: typed state, schemas, fields, reducers, snapshots, a branch's view."""

from pocoflow.store.store import Observer, Store

__all__ = ["Observer", "Store"]
