"""Values that cannot be stored, and whose own code fails, are what they are: the same object."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr, model_validator

from pocoflow import (
    BatchNode,
    FanOut,
    Flow,
    Node,
    Parallel,
    Store,
    Subflow,
    WorkflowDB,
    bind,
    key,
)

np = pytest.importorskip("numpy")


class Bad:
    """An object of which every question is an error."""

    def _fail(self, *_: object) -> Any:
        raise OSError("do not ask")

    __eq__ = __ne__ = __bool__ = __repr__ = __str__ = __hash__ = __len__ = __iter__ = _fail
    __deepcopy__ = __copy__ = __reduce_ex__ = _fail


class BadAttributes(Bad):
    """One that has no attributes, either."""

    __getattr__ = Bad._fail


class BadList(list[Any]):
    """A list that cannot be asked."""

    __eq__ = __repr__ = __len__ = __iter__ = __bool__ = __deepcopy__ = Bad._fail


class Tensor:
    """An object whose comparison is no truth value."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> Any:
        return np.array([True, False])


class Client:
    """A client with a lock: live, and not to be copied."""

    def __init__(self) -> None:
        self.lock, self.calls = threading.Lock(), 0


class Plain:
    """A client that could be copied, and must not be."""


def cyclic() -> list[Any]:
    """A list that contains itself."""
    made: list[Any] = []
    made.append(made)
    return made


STRANGE: dict[str, Callable[[], Any]] = {
    "array": lambda: np.arange(3),
    "array in depth": lambda: {"a": [np.arange(3), (np.arange(2), {"b": np.arange(1)})]},
    "bad": Bad,
    "bad attributes": BadAttributes,
    "bad list": lambda: BadList([1]),
    "tensor": Tensor,
    "tensors": lambda: [[{"x": (Tensor(),)}]],
    "client": Client,
    "plain": Plain,
    "lock": threading.Lock,
    "function": lambda: lambda: 1,
    "class": lambda: Bad,
    "exception": lambda: ValueError("x"),
    "secret": lambda: SecretStr("s"),
    "generator": lambda: (n for n in [1]),
    "cycle": cyclic,
    "set": lambda: {1, len},
}


class Writes(Node[None, None, str]):
    """Writes a key of its own name, and reads another."""

    def post(self, store: Store[Any], prepared: None, result: None) -> str:
        store[self.name] = 1
        store.get("strange")
        return "default"


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("path", [None, "runs.db"], ids=["memory", "database"])
def test_what_no_branch_touches_is_unchanged(name: str, path: str | None, tmp_path: Path) -> None:
    """Branches, items and a Subflow beside it end without a conflict, and it is the same after."""
    value = STRANGE[name]()
    fork = Parallel(Writes(name="x"), Writes(name="y"), name="fork")
    fan_out = FanOut(Writes(name="z"), each=key("items"), as_=key("item"), private=[key("z")])
    inner = Flow(Writes(name="w"), flow_name="inner")
    back = [bind(key("back")).to(key("strange"))]
    sub = Subflow(inner, inputs=[bind(key("strange")).to(key("strange"))], outputs=back)
    fork.then("default", fan_out)
    fan_out.then("default", sub)
    flow = Flow(fork, db_path=path and tmp_path / path, checkpoint_dir=path and tmp_path / "ck")
    store = flow.run({"strange": value, "items": [1, 2]})
    assert store["strange"] is value
    assert (store["x"], store["y"]) == (1, 1)
    if not isinstance(value, dict | list | set):  # which are copied
        assert store["back"] is value


class Passes(Node[Any, Any, str]):
    """Hands a value from ``prep`` through ``exec`` to ``post``."""

    def prep(self, store: Store[Any]) -> Any:
        return store["strange"]

    def exec(self, prepared: Any) -> Any:
        return prepared

    def post(self, store: Store[Any], prepared: Any, result: Any) -> str:
        store["result"] = result
        store["strange"] = result
        return "default"


class Each(BatchNode[Any, Any, str]):
    """Works on values as items."""

    def prep(self, store: Store[Any]) -> list[Any]:
        return [store["strange"], store["strange"]]

    def exec(self, item: Any) -> Any:
        return item

    def post(self, store: Store[Any], items: list[Any], results: list[Any]) -> str:
        store["results"] = results
        return "default"


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("path", [None, "runs.db"], ids=["memory", "database"])
def test_a_strange_value_goes_through_every_phase(
    name: str, path: str | None, tmp_path: Path
) -> None:
    """As a result of ``exec``, as an item and in the store; each step after it is committed."""
    value = STRANGE[name]()
    first, last = Passes(), Each()
    first.then("default", last)
    store = Flow(first, db_path=path and tmp_path / path, run_id="r").run({"strange": value})
    assert store["result"] is value
    assert all(result is value for result in store["results"])
    if path:
        with WorkflowDB(tmp_path / path) as db:
            assert len(db.get_checkpoints("r")) == 2


def test_a_client_is_the_same_in_every_branch() -> None:
    """A branch works with the client that was handed in, also where it could be copied."""
    seen: list[Any] = []

    class Uses(Writes):
        def post(self, store: Store[Any], prepared: None, result: None) -> str:
            seen.append(store["plain"])
            with store["client"].lock:
                store["client"].calls += 1
            return super().post(store, prepared, result)

    client, plain = Client(), Plain()
    for branches in ([Uses(name="x")], [Uses(name="x"), Uses(name="y")]):
        Flow(Parallel(*branches, name="fork")).run({"client": client, "plain": plain})
    assert client.calls == 3
    assert all(one is plain for one in seen)


def test_a_schema_compares_no_values() -> None:
    """A write to one field asks nothing of an array that a validator made in another."""

    class Arrays(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        array: Annotated[Any, AfterValidator(lambda one: one.astype(float))]
        strange: Any = None
        n: int = 0

        @model_validator(mode="after")
        def _looks(self) -> Arrays:
            return self

    store = Store({"array": np.arange(3), "strange": Bad()}, schema=Arrays)
    array = store["array"]
    store["n"] = 1
    store["strange"] = Tensor()
    assert store["array"] is array
    assert store.to_model().n == 1


def test_a_part_that_is_not_stored_hides_no_change(tmp_path: Path) -> None:
    """What is around an object that cannot be stored is compared, and written, as ever."""

    class Grows(Node[None, None, str]):
        def post(self, store: Store[Any], prepared: None, result: None) -> str:
            store["mixed"]["list"].append(len(store["mixed"]["list"]))
            return "again" if len(store["mixed"]["list"]) < 3 else "done"

    node = Grows()
    node.then("again", node)
    Flow(node, db_path=tmp_path / "r.db", run_id="r").run({"mixed": {"bad": Bad(), "list": []}})
    with WorkflowDB(tmp_path / "r.db") as db:
        found = [db.load_checkpoint("r", step)["mixed"]["list"] for step in range(3)]
    assert found == [[0], [0, 1], [0, 1, 2]]
