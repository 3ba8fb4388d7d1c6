"""What type checkers know about a node's settings and names. Never executed."""

from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import ContextVar
from typing import assert_type

from pydantic import BaseModel

from pocoflow import FanOut, Flow, Node, Parallel, fields, node
from pocoflow.nodes.settings import RetryOn, Where


class Form(BaseModel):
    text: str
    texts: list[str]


F = fields(Form)


def is_transient(exc: Exception) -> bool:
    return isinstance(exc, OSError)


class Patient(Node[str, str]):
    max_retries = 3
    retry_delay = 1
    backoff = 2.0
    jitter = 0.1
    retry_on = ConnectionError
    timeout = 30
    journal = False


def gives_pool() -> Executor:
    return ThreadPoolExecutor(2)


class Elsewhere(Node):
    executor = ThreadPoolExecutor


class Staying(Node):
    executor: Where = "here"


class Nowhere(Node):
    executor: Where = "there"  # type: ignore[assignment]  # ty: ignore[invalid-assignment]


@node(executor=gives_pool)
def away(text: str) -> None: ...


Flow(away, executor=ThreadPoolExecutor(2), carry=[ContextVar[str]("request_id")])
Flow(away, executor=gives_pool)
Flow(away, executor="pool")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]


class Choosy(Node):
    retry_on = (ConnectionError, TimeoutError)
    timeout = None


class Deciding(Node):
    retry_on: RetryOn = is_transient


class DecidingStatic(Node):
    retry_on = staticmethod(is_transient)


class Annotated(Node):
    retry_on: RetryOn = lambda exc: is_transient(assert_type(exc, Exception))
    timeout: float | None = None


class WithModel(Node[str, str]):
    def __init__(self, model: str, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.model = model


class WithoutSuper(Node[str, str]):
    def __init__(self, model: str) -> None:
        self.model = model


assert_type(Patient(), Patient)
assert_type(Patient(name="first").name, str)
assert_type(Patient().max_retries, int)
assert_type(Patient().backoff, float)
assert_type(WithModel("small"), WithModel)
assert_type(WithModel("small", name="first").model, str)
assert_type(WithoutSuper("small").model, str)

patient = Patient()
patient.name = "second"
patient.max_retries = 5
classic = Node()
classic.retry_on = is_transient
classic.retry_on = (ValueError, KeyError)
classic.retry_on = lambda exc: "429" in str(exc)
classic.timeout = None

# -- mistakes ---------------------------------------------------------------------------------


class Wrong(Node):
    max_retries = "3"  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
    retry_delay = "1s"  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
    backoff = None  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
    jitter = [0.1]  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
    timeout = "30s"  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
    journal = "no"  # type: ignore[assignment]  # ty: ignore[invalid-assignment]


class WholeNumber(Node):
    max_retries = 1.5  # type: ignore[assignment]  # ty: ignore[invalid-assignment]


class RetryOnName(Node):
    retry_on = "ConnectionError"  # type: ignore[assignment]  # ty: ignore[invalid-assignment]


class RetryOnInstance(Node):
    retry_on = ConnectionError()  # type: ignore[assignment]  # ty: ignore[invalid-assignment]


class RetryOnList(Node):
    retry_on = [ConnectionError, TimeoutError]  # type: ignore[assignment]  # ty: ignore[invalid-assignment]


class RetryOnNumber(Node):
    retry_on = (ConnectionError, 503)  # type: ignore[assignment]  # ty: ignore[invalid-assignment]


class RetryOnInterrupt(Node):
    retry_on = KeyboardInterrupt  # type: ignore[assignment]  # ty: ignore[invalid-assignment]


class RetryOnNoException(Node):
    retry_on = int  # type: ignore[assignment]  # ty: ignore[invalid-assignment]


class RetryOnFunction(Node):
    retry_on: RetryOn = lambda exc, attempt: True  # type: ignore[assignment]  # ty: ignore[invalid-assignment]


patient.max_retries = "3"  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
patient.max_retrys = 3  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
patient.name = 5  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
patient.name = None  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
classic.retry_on = "ConnectionError"  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
classic.timeout = "5"  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
Patient("first")  # type: ignore[call-arg]  # ty: ignore[too-many-positional-arguments]
Patient(name=5)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Patient(max_retries=3)  # type: ignore[call-arg]  # ty: ignore[unknown-argument]
WithModel()  # type: ignore[call-arg]  # ty: ignore[missing-argument]
WithModel(model=5)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]


@node(max_retrys=3)  # type: ignore[call-overload, untyped-decorator]  # ty: ignore[no-matching-overload]
def misspelt(text: str) -> None: ...


@node(writes=F.text, timeout="2s")  # type: ignore[call-overload, untyped-decorator]  # ty: ignore[invalid-argument-type]
def wrong_type(text: str) -> str:
    return text


@node(writes=F.text, concurrency=2)  # type: ignore[call-overload, untyped-decorator]  # ty: ignore[no-matching-overload]
def not_of_items(text: str) -> str:
    return text


@node(each=F.texts, concurency=2)  # type: ignore[call-overload, untyped-decorator]  # ty: ignore[no-matching-overload]
def misspelt_of_items(text: str) -> None: ...


Parallel(Patient(), on_eror="stop")  # type: ignore[call-arg]  # ty: ignore[unknown-argument]
Parallel(Patient(), on_error="stopp")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
FanOut(Patient(), each=F.texts, as_=F.text, privat=(F.text,))  # type: ignore[call-arg]  # ty: ignore[unknown-argument]
