"""The types of answers: what a node accepts, and how an answer is checked, stored and read."""

from __future__ import annotations

import json
from typing import Annotated, Any

from annotated_types import BaseMetadata
from pydantic import PydanticUserError, TypeAdapter, ValidationError

from pocoflow.errors import AnswerError, DefinitionError
from pocoflow.messages import defined_again, problems, short, type_label
from pocoflow.nodes.annotations import (
    answered,
    awaited,
    is_unknown,
    is_variable,
    plain,
    read_hints,
    type_arguments,
)
from pocoflow.nodes.base import AnyNode
from pocoflow.nodes.function import FunctionNode
from pocoflow.nodes.node_kinds import AskNode, BatchNode
from pocoflow.nodes.signature import Signature
from pocoflow.store.schema.model_facts import facts_of
from pocoflow.values.json_text import write_json
from pocoflow.values.remembering import remembered, remembered_by_type


class LossyAnswerError(AnswerError):
    """An answer has the right type, but would not survive a round trip through JSON."""


class AnswerType:
    """The type of answer that a node asks for.

    Args:
        hint: The type; ``Any`` accepts every JSON value.

    Raises:
        DefinitionError: Pydantic cannot validate the type, or describe it as a JSON schema; or it
            contains a secret.
    """

    def __init__(self, hint: Any) -> None:
        self.hint = hint
        try:
            self._adapter: TypeAdapter[object] = TypeAdapter(hint)
            self.schema: dict[str, object] = self._adapter.json_schema()
        except PydanticUserError as exc:
            raise DefinitionError(
                f"an answer of type {type_label(hint)} cannot be asked for: {exc.message}; use a "
                "type that Pydantic can describe as a JSON schema"
            ) from exc
        if '"writeOnly": true' in json.dumps(self.schema):
            raise DefinitionError(
                f"an answer of type {type_label(hint)} cannot be asked for: it has a secret, which "
                "would be on record in clear; ask for the name under which the program finds it"
            )

    def check(self, answer: object) -> object:
        """An answer as validated by the type.

        Raises:
            AnswerError: It does not fit the type.
        """
        try:
            return self._adapter.validate_python(answer, strict=True)
        except (ValueError, RecursionError) as exc:  # including Pydantic's
            again = defined_again(answer, self.hint, "the node that asks")
            raise AnswerError(f"{self._refusal(short(answer), exc)}{again}") from exc

    def from_python(self, answer: object) -> str:
        """An answer as JSON text.

        Raises:
            AnswerError: It does not fit the type, or cannot be written as JSON.
            LossyAnswerError: It would not be read back as it is.
        """
        checked = self.check(answer)
        try:
            tree = self._adapter.dump_python(checked, mode="json", by_alias=True, round_trip=True)
            text = write_json(tree)
        except (ValueError, RecursionError) as exc:  # including Pydantic's
            raise AnswerError(f"the answer {short(answer)} has no JSON: {exc}") from exc
        try:
            if self._adapter.validate_json(text, strict=True) == checked:
                return text
            reason = ""
        except ValidationError as exc:
            reason = f": {'; '.join(problems(exc))}"
        except (ValueError, RecursionError) as exc:  # raised by its own ==
            reason = f": {exc}"
        raise LossyAnswerError(
            f"the answer {short(answer)} would not come back from JSON as it is: as a "
            f"{type_label(self.hint)} it is written as {short(text)}{reason}"
        )

    def from_json(self, answer: object) -> str:
        """A JSON value, as ``json.loads`` returns it, as the JSON text of an answer.

        It is stored as given: what the type converts it to may not be valid input for the type.

        Raises:
            AnswerError: It does not fit the type.
        """
        try:
            text = write_json(answer)
        except ValueError as exc:
            raise AnswerError(f"the answer {short(answer)} is not a JSON value: {exc}") from exc
        self.read(text)
        return text

    def read(self, text: str) -> object:
        """The answer that was stored as JSON text.

        Raises:
            AnswerError: It does not fit the current type.
        """
        try:
            return self._adapter.validate_json(text, strict=True)
        except ValidationError as exc:
            raise self._refusal(text, exc) from exc

    def _refusal(self, shown: str, exc: Exception) -> AnswerError:
        message = f"the answer {shown:.200} is not a {type_label(plain(self.hint))}"
        if not isinstance(exc, ValidationError):
            return AnswerError(f"{message}: {exc}")
        return AnswerError(f"{message}: {'; '.join(problems(exc))}")


def asks(node: AnyNode) -> bool:
    """Whether a node may ask, by its definition."""
    if isinstance(node, FunctionNode):
        return node.signature.asks
    kind: type = type(node)
    return isinstance(node, AskNode) or _returned(kind)[1]


def answer_type(node: AnyNode) -> AnswerType:
    """The type of answer that a node asks for.

    Raises:
        DefinitionError: No answer of that type can be asked for; names the node.
    """
    hint = _hint(node)
    try:
        return _of_hint(Any if is_unknown(hint) else hint)
    except DefinitionError as exc:
        raise DefinitionError(f"node {node.name!r}: {exc}") from exc


_of_hint = remembered_by_type(AnswerType)


def _hint(node: AnyNode) -> object:
    if isinstance(node, FunctionNode):
        return _of_field(node.signature)
    kind: type = type(node)
    hint, asks = _returned(kind)
    if asks:
        return hint
    argument: object = Any
    if isinstance(node, AskNode):
        argument = type_arguments(type(node), AskNode)[0]
    elif isinstance(node, BatchNode):
        argument = type_arguments(type(node), BatchNode)[1]
    return Any if is_variable(argument) else argument


def _of_field(signature: Signature) -> object:
    """The type of the answer, with the constraints of the field that it is written to.

    Otherwise the field could refuse an answer that is final by then.
    """
    hint = signature.answer
    if len(signature.writes) != 1 or signature.each is not None or signature.chooses:
        return hint
    ((name, model),) = signature.writes
    field = None if model is None else model.model_fields.get(name)
    if model is None or field is None or not model.__pydantic_complete__:
        return hint
    if name in facts_of(model).reducers:
        return hint
    if hint is not Any and hint != field.annotation:
        return hint
    # Validators apply to what is written, and see it then.
    constraints = [part for part in field.metadata if isinstance(part, BaseMetadata)]
    return Annotated[(field.annotation, *constraints)] if constraints else field.annotation


@remembered
def _returned(kind: type) -> tuple[object, bool]:
    """What ``exec`` of a class returns once questions are answered, and whether it asks."""
    for phase in (getattr(kind, name, None) for name in ("exec_async", "exec")):
        if phase is None or phase is AskNode.exec:
            continue
        hint, asks = answered(awaited(read_hints(phase).get("return", Any)))
        if asks:
            return hint, True
    return Any, False
