"""What type checkers know about the run context. Never executed."""

from typing import assert_type

from pocoflow import Node, RunContext, context


class Paid(Node[str, str]):
    def exec(self, prompt: str) -> str:
        run = context()
        run.check_cancelled()
        return run.idempotency_key


assert_type(context(), RunContext)
assert_type(context().run_id, str)
assert_type(context().flow_name, str)
assert_type(context().node, str)
assert_type(context().path, tuple[str, ...])
assert_type(context().step, int)
assert_type(context().attempt, int)
assert_type(context().item, int | None)
assert_type(context().idempotency_key, str)

# -- mistakes ---------------------------------------------------------------------------------

context.run_id  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
context("run-1")  # type: ignore[call-arg]  # ty: ignore[too-many-positional-arguments]
context().stp  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
context().idempotency_key()  # type: ignore[operator]  # ty: ignore[not-callable]
context().idempotency_key = "mine"  # type: ignore[misc]  # ty: ignore[invalid-assignment]
context().check_canceled()  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
step: str = context().step  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
item: int = context().item  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
RunContext("run-1")  # type: ignore[call-arg]  # ty: ignore[missing-argument]
