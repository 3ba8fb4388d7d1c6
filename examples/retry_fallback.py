"""Retries and fallbacks: a service that is busy at first, and one that never answers.

``Forecast`` is tried again until it succeeds. ``Photo`` is tried twice and then replaced by its
fallback. Both retry only what a second attempt may cure (``retry_on``).

Run it with ``python examples/retry_fallback.py``.
"""

from typing import Literal

from pydantic import BaseModel

from pocoflow import Flow, Node, Store, context


class Card(BaseModel):
    """A weather card for one city."""

    city: str
    forecast: str
    photo: str


class ServiceBusy(Exception):
    """What the pretended services raise when they cannot answer."""


def ask_forecast(city: str, attempt: int) -> str:
    """A stand-in for a service that answers the third time."""
    if attempt < 3:
        raise ServiceBusy(f"try again later (request {attempt})")
    return f"sunny in {city}"


def ask_photo(city: str) -> str:
    """A stand-in for a service that is down."""
    raise ServiceBusy("no answer")


class Forecast(Node[str, str, Literal["ok"]]):
    """Up to four attempts, 10 ms apart, then 20 ms, then 40 ms."""

    max_retries = 4
    retry_delay = 0.01
    backoff = 2.0
    retry_on = ServiceBusy

    def prep(self, store: Store[Card]) -> str:
        return store.state.city

    def exec(self, city: str) -> str:
        return ask_forecast(city, context().attempt)

    def post(self, store: Store[Card], city: str, forecast: str) -> Literal["ok"]:
        store.state.forecast = forecast
        return "ok"


class Photo(Node[str, str, Literal["ok"]]):
    """Two attempts; a card without a photo is better than no card."""

    max_retries = 2
    retry_on = ServiceBusy

    def prep(self, store: Store[Card]) -> str:
        return store.state.city

    def exec(self, city: str) -> str:
        return ask_photo(city)

    def exec_fallback(self, city: str, exc: Exception) -> str:
        return f"(no photo of {city}: {exc})"

    def post(self, store: Store[Card], city: str, photo: str) -> Literal["ok"]:
        store.state.photo = photo
        return "ok"


def build_flow() -> Flow[Card]:
    """Forecast, then photo; every failed attempt is printed."""
    forecast, photo = Forecast(), Photo()
    forecast.then("ok", photo)
    flow = Flow(start=forecast, flow_name="weather", schema=Card)
    flow.on(
        "node_retry",
        lambda name, attempt, exc, store: print(f"{name}: attempt {attempt} failed: {exc}"),
    )
    return flow


if __name__ == "__main__":
    card = build_flow().run({"city": "Lisbon"}).to_model()
    print(f"{card.city}: {card.forecast} {card.photo}")
