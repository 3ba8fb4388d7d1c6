"""What type checkers know about ``Store``. Never executed; see ``tests/integration/test_typing.py``."""

from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any, assert_type

from pydantic import BaseModel

from pocoflow import Store
from pocoflow.store import Observer


class Article(BaseModel):
    document: str
    summary: str = ""
    score: float = 0.0
    tags: list[str] = []

    def words(self) -> int:
        return len(self.document.split())


class Review(Article):
    stars: int = 0


class Comment(BaseModel):
    text: str


article = Article(document="...")
mapping: Mapping[str, int] = {"a": 1}
objects: dict[str, object] = {"a": 1}

# -- what kind of store a constructor makes ---------------------------------------------------

assert_type(Store(), Store[Any])
assert_type(Store({}), Store[Any])
assert_type(Store({"a": 1}), Store[Any])
assert_type(Store(mapping), Store[Any])
assert_type(Store(objects), Store[Any])
assert_type(Store(name="main"), Store[Any])
assert_type(Store(data={"query": ""}, schema={"query": str, "n": int | None}, name="x"), Store[Any])
assert_type(Store({"query": ""}, {"query": str}), Store[Any])
assert_type(Store(schema={"query": str}), Store[Any])
assert_type(Store(Comment(text=""), {"text": str}), Store[Any])

assert_type(Store(article), Store[Article])
assert_type(Store(article, name="main"), Store[Article])
assert_type(Store(schema=Article), Store[Article])
assert_type(Store({"document": "..."}, schema=Article), Store[Article])
assert_type(Store({"document": "..."}, Article, "main"), Store[Article])
assert_type(Store(mapping, schema=Article), Store[Article])
assert_type(Store(None, schema=Article), Store[Article])
assert_type(Store(Comment(text=""), schema=Article), Store[Article])

assert_type(Store.restore("a.json"), Store[Any])
assert_type(Store.restore(Path("a.json"), {"query": str}), Store[Any])
assert_type(Store.restore("a.json", Article), Store[Article])
assert_type(Store.restore("a.json", schema=Article), Store[Article])

untyped = Store({"a": 1})
typed = Store(article)
no_type_argument: Store = untyped
any_store_will_do: Store[Article] = untyped
from_a_dict: Store[Article] = Store({"document": "..."})

# -- a mutable mapping of str to Any ----------------------------------------------------------

as_mapping: MutableMapping[str, Any] = typed
assert_type(typed["summary"], Any)
assert_type(typed.get("summary"), Any)
assert_type(len(typed), int)
assert_type(iter(typed), Iterator[str])
assert_type("summary" in typed, bool)
assert_type(list(typed), list[str])
assert_type(typed.as_dict(), dict[str, Any])
assert_type(typed.name, str)
assert_type(typed.setdefault("score", 0.0), Any)
assert_type(typed.pop("score"), Any)
assert_type({**typed}, dict[str, Any])
typed["summary"] = "..."
del typed["summary"]
typed.update({"summary": ""}, score=0.5)
typed.update([("summary", "")])
typed.update(untyped)
typed.update(score=1)
for key, value in typed.items():
    assert_type(key, str)
    assert_type(value, Any)

# -- the typed view ---------------------------------------------------------------------------

assert_type(typed.state, Article)
assert_type(typed.state.summary, str)
assert_type(typed.state.score, float)
assert_type(typed.state.tags, list[str])
assert_type(typed.state.words(), int)
assert_type(untyped.state, Any)
assert_type(typed.to_model(), Article)
typed.state.summary = "..."
typed.state.score = 1
typed.state.tags.append("news")
untyped.state.whatever = 1


def observe(key: str, old: object, new: object) -> int:
    return 1


def summarised(store: Store[Article]) -> str:
    return store.state.summary


def starred(store: Store[Review]) -> int:
    return store.state.stars


# A store of a model is one of its base classes.
summarised(Store(Review(document="...")))
summarised(untyped)
starred(untyped)

typed.add_observer(observe)
typed.add_observer(print)
typed.add_observer(lambda key, old, new: print(f"{key}: {old!r} -> {new!r}"))
typed.add_observer(lambda key, old, new: assert_type(key, str))
observer: Observer = observe
typed.remove_observer(observer)
assert_type(typed.snapshot("a.json"), Path)
assert_type(typed.snapshot(Path("a.json")), Path)
untyped.bind(Article)
untyped.bind({"query": str})
typed.validate()
summarised(typed)
summarised(untyped)
summarised(Store({"document": "..."}, schema=Article))

# -- mistakes ---------------------------------------------------------------------------------

Store(5)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
Store("text")  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
Store([("a", 1)])  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
Store({1: 2})  # type: ignore[dict-item]  # ty: ignore[no-matching-overload]
Store({}, name=5)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
Store({}, shema=Article)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
Store({}, schema=int)  # type: ignore[type-var]  # ty: ignore[no-matching-overload]
Store({}, schema=article)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
Store({}, schema="Article")  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
Store.restore(5)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Store.restore("a.json", article)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
no_model: Store[int]  # type: ignore[type-var]  # ty: ignore[invalid-type-arguments]
other_model: Store[Article] = Store(Comment(text=""))  # type: ignore[arg-type]  # ty: ignore[invalid-assignment]
other_schema: Store[Article] = Store({}, schema=Comment)  # type: ignore[arg-type]  # ty: ignore[invalid-assignment]
summarised(Store(Comment(text="")))  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
starred(typed)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
summarised({"summary": ""})  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
summarised(article)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]

typed.state.sumary  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
typed.state.sumary = ""  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
typed.state.score = "high"  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
typed.state.summary = None  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
typed.state.tags.append(5)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
typed.state.words = 5  # type: ignore[method-assign, assignment]  # ty: ignore[invalid-assignment]
typed.state.words(5)  # type: ignore[call-arg]  # ty: ignore[too-many-positional-arguments]
typed.state = article  # type: ignore[misc]  # ty: ignore[invalid-assignment]
number: int = typed.state.summary  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
model: Comment = typed.to_model()  # type: ignore[assignment]  # ty: ignore[invalid-assignment]

typed[1]  # type: ignore[index]  # ty: ignore[invalid-argument-type]
typed[1] = ""  # type: ignore[index]  # ty: ignore[invalid-assignment]
del typed[1]  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
typed.update(5)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
typed.update({1: 2})  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
typed.setdefault(5, "")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
typed.summary  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
typed.add_observer(lambda key: None)  # type: ignore[arg-type, misc]  # ty: ignore[invalid-argument-type]
typed.add_observer(5)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
typed.snapshot(5)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
untyped.bind(article)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
written: str = typed.snapshot("a.json")  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
