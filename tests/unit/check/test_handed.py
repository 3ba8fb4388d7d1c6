"""PF409: what a phase hands to a later one as an attribute of the node."""

import asyncio
from typing import Annotated, Any

import pytest

from pocoflow import BatchNode, FanOut, Flow, Node, key
from pocoflow.reducers import append


class Hands(Node):
    """Hands something from prep to exec."""

    def prep(self, store: Any) -> Any:
        """Keep it."""
        self.kept = store["item"]
        return self.kept

    async def exec(self, given: Any) -> Any:
        """Read it after a while."""
        await asyncio.sleep(0)
        return given, self.kept

    def post(self, store: Any, given: Any, result: Any) -> None:
        """Collect it."""
        store.reduce("out", result)


class ToPost(Node):
    """Hands something from exec to post."""

    def exec(self, given: Any) -> Any:
        """Keep it."""
        self.kept, other = given, 1
        return other

    def post(self, store: Any, given: Any, result: Any) -> None:
        """Read it."""
        store["kept"] = self.kept


class ToItems(BatchNode):
    """Hands something to all items."""

    def prep(self, store: Any) -> Any:
        """Keep it."""
        self.kept: list[int] = []
        return [1]

    def exec(self, item: Any) -> Any:
        """Read it."""
        self.kept.append(item)


class ByMethods(Node):
    """Has methods of its own keep it, and read it."""

    def prep(self, store: Any) -> Any:
        """Have it kept."""
        self.keep(store["item"])

    def keep(self, given: Any) -> None:
        """Keep it."""
        self.kept = given

    def post(self, store: Any, given: Any, result: Any) -> None:
        """Have it read."""
        self.show(store)

    def show(self, store: Any) -> None:
        """Read it."""
        store["kept"] = self.kept


class ByMethodsOnFirstUse(Node):
    """Has methods of its own make what is first needed, or what each phase makes anew."""

    client: Any = None
    noted: Any

    def prep(self, store: Any) -> Any:
        """Make it."""
        self.note("prep")
        if self.client is None:
            self.connect()

    def connect(self) -> None:
        """Make it indeed."""
        self.client = object()

    def note(self, what: str) -> None:
        """Keep what is kept anew in each phase."""
        self.noted = what

    def exec(self, given: Any) -> Any:
        """Use them."""
        self.note("exec")
        return self.client, self.noted


class OnFirstUse(Node):
    """Makes a client when it is first needed."""

    kept: Any = None

    def prep(self, store: Any) -> Any:
        """Make it."""
        if self.kept is None:
            self.kept = object()
        if not hasattr(self, "other"):
            self.other = object()

    def exec(self, given: Any) -> Any:
        """Use it."""
        return self.kept is self.other


class OnFirstUseInOtherWords(Node):
    """The same, as it is also written."""

    kept: Any = None
    early: Any = None
    tried: Any

    def prep(self, store: Any) -> Any:
        """Make them."""
        self.kept = self.kept or object()
        try:
            self.tried  # noqa: B018
        except AttributeError:
            self.tried = object()
        other = getattr(self, "other", None)
        if other is None:
            other = self.other = object()
        if "held" not in vars(self):
            self.held = other
        if self.early is not None:
            return self.early
        self.early = object()
        return self.early

    def exec(self, given: Any) -> Any:
        """Use them."""
        return self.kept, self.tried, self.other, self.held, self.early


class Counts(Node):
    """Counts for itself."""

    count = 0

    def exec(self, given: Any) -> Any:
        """Count."""
        self.count += 1
        return self.count


class Reads(Node):
    """Reads what it was made with."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = 1

    def exec(self, given: Any) -> Any:
        """Read it."""
        return self.kept


@pytest.mark.parametrize("kind", [Hands, ToPost, ToItems, ByMethods])
def test_what_a_phase_hands_on_as_an_attribute_is_found(kind: type[Node]) -> None:
    """With both phases, and the line where it is set."""
    (found,) = Flow(start=kind(), db_path="runs.db").validate()
    assert (found.code, found.severity) == ("PF409", "warning")
    setter = "exec" if kind is ToPost else "prep"
    reader = "post" if kind in (ToPost, ByMethods) else "exec"
    assert found.message.startswith(f"{setter} sets self.kept, which {reader} reads")
    assert found.file == __file__


def test_without_a_database_one_visit_after_the_other_is_left_alone() -> None:
    """Nothing comes between two phases of it."""
    assert Flow(start=Hands()).validate() == []


@pytest.mark.parametrize(
    "kind", [OnFirstUse, OnFirstUseInOtherWords, ByMethodsOnFirstUse, Counts, Reads]
)
def test_what_is_the_node_s_own_is_left_alone(kind: type[Node]) -> None:
    """Clients that are kept, counters of one phase, and what the node was made with."""
    assert Flow(start=kind(), db_path="runs.db").validate() == []


@pytest.mark.parametrize("concurrency", [1, 3])
def test_what_items_at_the_same_time_share_is_logged_before_a_run(
    concurrency: int, caplog: pytest.LogCaptureFixture
) -> None:
    """One item would read what another has set; one after the other they do not."""
    each = FanOut(Hands(), each=key("items"), as_=key("item"), concurrency=concurrency)
    flow = Flow(start=each, schema={"out": Annotated[list[Any], append]})
    done = flow.run({"items": [1, 2, 3], "out": []})
    told = [one.getMessage() for one in caplog.records]
    assert ["PF409" in one for one in told] == [True] * (concurrency > 1)
    if concurrency == 1:
        assert done["out"] == [(1, 1), (2, 2), (3, 3)]
