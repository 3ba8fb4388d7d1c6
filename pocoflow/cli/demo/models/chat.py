"""The requests of the demo to a language model, in terms of OpenAI's chat completions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from pocoflow.errors import PocoflowError

OnToken: TypeAlias = Callable[[str], object]
"""Called with each piece of an answer as it arrives."""

_SAMPLING = 0.6

INSTALL = 'pip install "pocoflow[demo]"'
"""The command that installs the clients of the demo."""


class ModelError(PocoflowError):
    """The model could not answer; the message says which one, why, and what to do."""


class NoModelError(ModelError):
    """There is no model: no endpoint in the environment, and the offline one is not installed."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request to a model.

    Attributes:
        text: What the user says.
        system: What the model is to be, or nothing.
        max_tokens: Where the answer is cut.
        schema: A JSON schema; the answer is then JSON that fits it.
        seed: 0 asks for the most likely answer; every other number samples a different one.
    """

    text: str
    system: str = ""
    max_tokens: int = 128
    schema: Mapping[str, object] | None = None
    seed: int = 0

    def as_chat(self) -> dict[str, object]:
        """The body of a request for a chat completion."""
        first = [{"role": "system", "content": self.system}] if self.system else []
        request: dict[str, object] = {
            "messages": [*first, {"role": "user", "content": self.text}],
            "max_tokens": self.max_tokens,
            "temperature": _SAMPLING if self.seed else 0,
        }
        if self.seed:
            request["seed"] = self.seed
        if self.schema is not None:
            answer = {"name": "answer", "strict": True, "schema": dict(self.schema)}
            request["response_format"] = {"type": "json_schema", "json_schema": answer}
        return request


class LanguageModel(Protocol):
    """All that the demo needs of a language model."""

    @property
    def label(self) -> str:
        """Its name for the user."""

    def complete(self, prompt: Prompt, on_token: OnToken | None = None) -> str:
        """Answer a prompt.

        Args:
            prompt: What is asked.
            on_token: Called with each piece of the answer as it arrives.

        Raises:
            ModelError: There is no answer.
        """
