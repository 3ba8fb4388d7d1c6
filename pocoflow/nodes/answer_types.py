"""The types of answers: what a node may be told, and how an answer is checked, kept and read."""

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
from pocoflow.values.remembering import remembered


class UnkeptAnswerError(AnswerError):
    """An answer is of the type that is asked for, and JSON does not give it back as it is."""


class AnswerType:
    """What a node asks for.

    Args:
        hint: The type; ``Any`` takes every JSON value.

    Raises:
        DefinitionError: Pydantic cannot validate the type, or describe it as a JSON schema; or it
            has a secret in it.
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
        """An answer as the type takes it.

        Raises:
            AnswerError: It does not fit the type.
        """
        try:
            return self._adapter.validate_python(answer, strict=True)
        except (ValueError, RecursionError) as exc:  # of Pydantic, too
            again = defined_again(answer, self.hint, "the node that asks")
            raise AnswerError(f"{self._refusal(short(answer), exc)}{again}") from exc

    def from_python(self, answer: object) -> str:
        """An answer as JSON text.

        Raises:
            AnswerError: It does not fit the type, or has no JSON.
            UnkeptAnswerError: It would not come back the same.
        """
        checked = self.check(answer)
        try:
            tree = self._adapter.dump_python(checked, mode="json", by_alias=True, round_trip=True)
            text = write_json(tree)
        except (ValueError, RecursionError) as exc:  # of Pydantic, too
            raise AnswerError(f"the answer {short(answer)} has no JSON: {exc}") from exc
        try:
            if self._adapter.validate_json(text, strict=True) == checked:
                return text
            why = ""
        except ValidationError as exc:
            why = f": {'; '.join(problems(exc))}"
        except (ValueError, RecursionError) as exc:  # of its own ==
            why = f": {exc}"
        raise UnkeptAnswerError(
            f"the answer {short(answer)} would not come back from JSON as it is: as a "
            f"{type_label(self.hint)} it is written as {short(text)}{why}"
        )

    def from_json(self, answer: object) -> str:
        """A JSON value, such as ``json.loads`` gives, as the JSON text of an answer.

        It is kept as it is given: what the type makes of it need not be what the type takes.

        Raises:
            AnswerError: It does not fit the type.
        """
        try:
            given = write_json(answer)
        except ValueError as exc:
            raise AnswerError(f"the answer {short(answer)} is not a JSON value: {exc}") from exc
        self.read(given)
        return given

    def read(self, text: str) -> object:
        """The answer that was kept as a JSON text.

        Raises:
            AnswerError: It does not fit the type as it is now.
        """
        try:
            return self._adapter.validate_json(text, strict=True)
        except ValidationError as exc:
            raise self._refusal(text, exc) from exc

    def _refusal(self, shown: str, exc: Exception) -> AnswerError:
        wanted = f"the answer {shown:.200} is not a {type_label(plain(self.hint))}"
        if not isinstance(exc, ValidationError):
            return AnswerError(f"{wanted}: {exc}")
        return AnswerError(f"{wanted}: {'; '.join(problems(exc))}")


def asks(node: AnyNode) -> bool:
    """Whether the definition of a node says that it may ask."""
    if isinstance(node, FunctionNode):
        return node.signature.asks
    kind: type = type(node)
    return isinstance(node, AskNode) or _returned(kind)[1]


def answer_type(node: AnyNode) -> AnswerType:
    """What a node asks for.

    Raises:
        DefinitionError: No answer of that type can be asked for; names the node.
    """
    hint = _hint(node)
    try:
        return AnswerType(Any if is_unknown(hint) else hint)
    except DefinitionError as exc:
        raise DefinitionError(f"node {node.name!r}: {exc}") from exc


def _hint(node: AnyNode) -> object:
    if isinstance(node, FunctionNode):
        return _of_field(node.signature)
    kind: type = type(node)
    hint, said = _returned(kind)
    if said:
        return hint
    argument: object = Any
    if isinstance(node, AskNode):
        argument = type_arguments(type(node), AskNode)[0]
    elif isinstance(node, BatchNode):
        argument = type_arguments(type(node), BatchNode)[1]
    return Any if is_variable(argument) else argument


def _of_field(signature: Signature) -> object:
    """What is asked for, with the constraints of the field that the answer is written to.

    The field would refuse what does not fit them, and the answer would be given for good by then.
    """
    stated = signature.answer
    if len(signature.writes) != 1 or signature.each is not None or signature.chooses:
        return stated
    ((name, model),) = signature.writes
    found = None if model is None else model.model_fields.get(name)
    if model is None or found is None or not model.__pydantic_complete__:
        return stated
    if name in facts_of(model).reducers:
        return stated
    if stated is not Any and stated != found.annotation:
        return stated
    # Validators are for what is written, and see it then.
    constraints = [one for one in found.metadata if isinstance(one, BaseMetadata)]
    return Annotated[(found.annotation, *constraints)] if constraints else found.annotation


@remembered
def _returned(kind: type) -> tuple[object, bool]:
    """What ``exec`` of a class returns when its questions are answered, and whether it asks."""
    for phase in (getattr(kind, one, None) for one in ("exec_async", "exec")):
        if phase is None or phase is AskNode.exec:
            continue
        hint, said = answered(awaited(read_hints(phase).get("return", Any)))
        if said:
            return hint, True
    return Any, False
