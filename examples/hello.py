"""A small flow that shows the main things: two nodes, a typed store, hooks.

Run it with ``python examples/hello.py [NAME]``.
"""

import sys
from typing import Literal

from pydantic import BaseModel

from pocoflow import Flow, Node, Store


class Greeting(BaseModel):
    """What the two nodes share. A field without a default is unset until a node writes it."""

    name: str
    greeting: str
    shout: str


class Greet(Node[str, str, Literal["greeted"]]):
    """Make a greeting of a name."""

    def prep(self, store: Store[Greeting]) -> str:
        return store.state.name

    def exec(self, name: str) -> str:
        return f"Hello, {name}!"

    def post(self, store: Store[Greeting], name: str, greeting: str) -> Literal["greeted"]:
        store.state.greeting = greeting
        return "greeted"


class Shout(Node[str, str, Literal["done"]]):
    """Say it louder."""

    def prep(self, store: Store[Greeting]) -> str:
        return store.state.greeting

    def exec(self, greeting: str) -> str:
        return greeting.upper()

    def post(self, store: Store[Greeting], greeting: str, shout: str) -> Literal["done"]:
        store.state.shout = shout
        return "done"


def build_flow() -> Flow[Greeting]:
    """Wire the nodes, and tell a few hooks of what happens."""
    greet, shout = Greet(), Shout()
    greet.then("greeted", shout)
    flow = Flow(start=greet, flow_name="hello", schema=Greeting)
    flow.on("node_start", lambda name, store: print(f"▶ {name}"))
    flow.on(
        "node_end",
        lambda name, action, elapsed, store: print(f"✓ {name} → {action}  ({elapsed:.2f}s)"),
    )
    flow.on("node_error", lambda name, exc, store: print(f"✗ {name}: {exc}"))
    flow.on("flow_end", lambda steps, store: print(f"Done in {steps} steps"))
    return flow


if __name__ == "__main__":
    result = build_flow().run({"name": sys.argv[1] if len(sys.argv) > 1 else "world"})
    print(result["shout"])
