"""Names that are not there: each is an error, although some are imported late. Never executed."""

from typing import assert_type

import pocoflow
import pocoflow.db
from pocoflow import WorkflowDB

assert_type(pocoflow.WorkflowDB("x.db"), WorkflowDB)
assert_type(pocoflow.db.WorkflowDB("x.db"), WorkflowDB)
print(pocoflow.BachNode)  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
print(pocoflow.WorkflowDb)  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]


def late() -> None:
    from pocoflow import Flwo  # type: ignore[attr-defined]  # ty: ignore[missing-module-member]

    del Flwo
