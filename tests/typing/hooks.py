"""What type checkers know about hooks: one shape for each event. Never executed."""

from typing import Any, assert_type

from pydantic import BaseModel

from pocoflow import Flow, Node, Store


class Article(BaseModel):
    document: str
    summary: str = ""


class Comment(BaseModel):
    text: str


flow = Flow(start=Node(), schema=Article)
untyped = Flow(start=Node())

# -- lambdas: their parameters have types (the mistakes below show that none of them is Any) ---


def text(value: str) -> None:
    pass


def number(value: float) -> None:
    pass


def problem(value: Exception) -> None:
    pass


def articles(value: Store[Article]) -> None:
    pass


flow.on("flow_start", lambda store: text(store.state.summary))
flow.on("node_start", lambda name, store: text(name))
flow.on("node_start", lambda name, store: text(store.state.summary))
flow.on("node_retry", lambda name, attempt, exc, store: number(attempt))
flow.on("node_end", lambda name, action, elapsed, store: text(action))
flow.on("node_end", lambda name, action, elapsed, store: number(elapsed))
flow.on("node_error", lambda name, exc, store: problem(exc))
flow.on("flow_end", lambda steps, store: number(steps))
flow.on("flow_error", lambda exc, store: articles(store))
flow.on("flow_cancelled", lambda steps, store: articles(store))
untyped.on("flow_end", lambda steps, store: articles(store))
untyped.on("node_start", lambda name, store: print(f"> {name}"))
untyped.on("node_end", lambda name, action, elapsed, store: print(f"{name} {elapsed:.2f}s"))
untyped.on("flow_end", lambda steps, store: store.state.whatever)

# -- functions, with names and types of their author's choice ---------------------------------


def started(who: str, state: Store[Article]) -> None:
    pass


def ended(who: object, how: object, seconds: float, state: Store, more: int = 0) -> bool:
    return True


def anything(*args: object) -> None:
    pass


def about_comments(name: str, store: Store[Comment]) -> None:
    pass


class Progress:
    def started(self, name: str, store: Store[Article]) -> None:
        pass

    def __call__(self, steps: int, store: Store[Article]) -> None:
        pass


progress = Progress()
assert_type(flow.on("node_start", started), Flow[Article])
assert_type(flow.on("node_start", started).on("node_end", ended), Flow[Article])
flow.on("node_start", progress.started)
flow.on("flow_end", progress)
flow.on("node_error", anything)
flow.on("node_error", print)
untyped.on("node_start", started)
untyped.on("node_start", about_comments)

# -- mistakes ---------------------------------------------------------------------------------

flow.on("nod_start", started)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("node_started", lambda name, store: None)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("*", anything)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on(started)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("node_start")  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("node_start", None)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("node_start", "started")  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("node_start", started("", Store()))  # type: ignore[call-overload, func-returns-value]  # ty: ignore[no-matching-overload]

flow.on("flow_start", lambda: None)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("flow_start", lambda name, store: None)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("node_start", lambda store: None)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("node_start", lambda name, action, store: None)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("node_retry", lambda name, exc, store: None)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("node_retry", lambda name, attempt, exc, delay, store: None)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("node_end", lambda name, store: None)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("node_end", lambda name, action, store: None)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("node_error", lambda exc: None)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("node_error", lambda name, phase, exc, store: None)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("flow_end", lambda store: None)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("flow_end", lambda name, steps, store: None)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("flow_error", lambda exc: None)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("flow_error", lambda name, exc, store: None)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("flow_cancelled", lambda: None)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("flow_cancelled", lambda name, steps, store: None)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
untyped.on("node_start", lambda store: None)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]

flow.on("node_end", started)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("node_start", ended)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("flow_end", started)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("node_start", progress)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("node_start", Progress.started)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("node_start", about_comments)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("node_start", lambda name, store: store.state.sumary)  # type: ignore[call-overload]  # ty: ignore[missing-attribute]


def swapped(store: Store[Article], name: str) -> None:
    pass


def takes_dict(name: str, store: dict[str, Any]) -> None:
    pass


def takes_model(name: str, store: Article) -> None:
    pass


def takes_value_error(name: str, exc: ValueError, store: Store[Article]) -> None:
    pass


def takes_exception(exc: Exception, store: Store[Article]) -> None:
    pass


def takes_text(name: str, action: str, elapsed: str, store: Store[Article]) -> None:
    pass


def takes_keyword(name: str, *, store: Store[Article]) -> None:
    pass


flow.on("node_start", swapped)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("node_start", takes_dict)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("node_start", takes_model)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("node_start", takes_keyword)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("node_error", takes_value_error)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("flow_error", takes_exception)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]
flow.on("node_end", takes_text)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]

flow.on("flow_start", lambda store: number(store.state.summary))  # type: ignore[call-overload]  # ty: ignore[invalid-argument-type]
flow.on("node_start", lambda name, store: number(name))  # type: ignore[call-overload]  # ty: ignore[invalid-argument-type]
flow.on("node_start", lambda name, store: number(store.state.summary))  # type: ignore[call-overload]  # ty: ignore[invalid-argument-type]
flow.on("node_retry", lambda name, attempt, exc, store: text(attempt))  # type: ignore[call-overload]  # ty: ignore[invalid-argument-type]
flow.on("node_retry", lambda name, attempt, exc, store: text(exc))  # type: ignore[call-overload]  # ty: ignore[invalid-argument-type]
flow.on("node_end", lambda name, action, elapsed, store: number(action))  # type: ignore[call-overload]  # ty: ignore[invalid-argument-type]
flow.on("node_end", lambda name, action, elapsed, store: text(elapsed))  # type: ignore[call-overload]  # ty: ignore[invalid-argument-type]
flow.on("node_error", lambda name, exc, store: text(exc))  # type: ignore[call-overload]  # ty: ignore[invalid-argument-type]
flow.on("flow_end", lambda steps, store: text(steps))  # type: ignore[call-overload]  # ty: ignore[invalid-argument-type]
flow.on("flow_error", lambda exc, store: problem(exc))  # type: ignore[call-overload]  # ty: ignore[invalid-argument-type]
flow.on("flow_cancelled", lambda steps, store: text(steps))  # type: ignore[call-overload]  # ty: ignore[invalid-argument-type]
