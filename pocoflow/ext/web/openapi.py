"""The OpenAPI description of the runs of a flow, from its schema and its questions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import JsonSchemaMode, JsonSchemaValue, models_json_schema

from pocoflow.ext.web.owned import Listing, OwnedRuns, Problem, Runs, Start, WebLimits, WholeRun
from pocoflow.nodes.answer_types import answer_type, asks

_JSON = "application/json"

_REFUSALS = {
    401: "nobody knows who you are",
    404: "you have no such run, or it no such question",
    409: "there is one already, or it is too late",
    413: "the body is too large",
    415: "the body is not said to be JSON",
    422: "something in the request does not fit",
    429: "you use as much as you may; Retry-After says when to try again",
    503: "the database is busy or cannot be reached; Retry-After says when to try again",
}

_ID = {"name": "run_id", "in": "path", "required": True, "schema": {"type": "string"}}
_NUMBER = {"name": "question", "in": "path", "required": True, "schema": {"type": "integer"}}
_AFTER = {"type": "integer", "minimum": -1, "default": -1}


def describe(runs: OwnedRuns, limits: WebLimits, prefix: str) -> JsonSchemaValue:
    """The description.

    Args:
        runs: The runs.
        limits: The limits for each owner.
        prefix: The prefix of the paths.
    """
    name = runs.flow.flow_name
    schemas = _Schemas(name)
    listing = _put_ours(schemas, runs)
    answers = [schemas.put("Answer", schema) for schema in _answers(runs)] or [{}]
    answer = schemas.put(
        "Answering",
        {
            "type": "object",
            "properties": {"answer": answers[0] if len(answers) == 1 else {"anyOf": answers}},
            "required": ["answer"],
            "additionalProperties": False,
        },
    )
    run, problem = schemas.reference("WholeRun"), _content(_JSON, schemas.reference("Problem"))
    good = {200: _given(run)}

    def operation(
        verb: str, about: str, good: Mapping[int, JsonSchemaValue], *bad: int, **more: object
    ) -> JsonSchemaValue:
        refused = {code: {"description": _REFUSALS[code], **problem} for code in (401, *bad)}
        responses = {str(code): response for code, response in {**good, **refused}.items()}
        facts = {"operationId": f"{name}_{verb}", "summary": about, "tags": [name]}
        return {**facts, "responses": responses, **more}

    def body(schema: JsonSchemaValue) -> JsonSchemaValue:
        size = f"at most {limits.body} bytes"
        return {"description": size, "required": True, **_content(_JSON, schema)}

    page = operation(
        "list",
        "List your runs, the newest first",
        {200: _given(schemas.reference("Runs"))},
        *(404, 422, 503),
        parameters=[{"name": k, "in": "query", "schema": schema} for k, schema in listing.items()],
    )
    started = {202: _given(run, "it is queued")}
    started[200] = _given(run, "it was started before, as it is now")
    start = operation(
        "start",
        "Start a run",
        started,
        *(409, 413, 415, 422, 429, 503),
        requestBody=body(schemas.reference("Start")),
    )
    events = {
        "description": "server-sent events: the number as id, a JSON object as data",
        **_content("text/event-stream", {"type": "string"}),
    }
    follow = operation(
        "follow",
        "Follow the events of a run",
        {200: events, 204: {"description": "the run has ended, and you know all of it"}},
        *(404, 422, 429, 503),
        parameters=[
            _ID,
            {"name": "after", "in": "query", "schema": _AFTER},
            {"name": "Last-Event-ID", "in": "header", "schema": _AFTER},
        ],
    )
    taken = {"parameters": [_ID, _NUMBER], "requestBody": body(answer)}
    refused = (404, 413, 415, 422, 503)
    reply = operation("answer", "Answer a question of a run", good, 404, 409, *refused[1:], **taken)
    taken = {"parameters": [_ID], "requestBody": body({"type": "object"})}
    cancel = operation("cancel", "Ask a run to stop", good, *refused, **taken)
    look = operation("look", "How a run stands", good, 404, 503, parameters=[_ID])
    run_path = f"{prefix}/runs/{{run_id}}"
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "version": "1"},
        "paths": {
            f"{prefix}/runs": {"get": page, "post": start},
            run_path: {"get": look},
            f"{run_path}/events": {"get": follow},
            f"{run_path}/questions/{{question}}": {"post": reply},
            f"{run_path}/cancel": {"post": cancel},
        },
        "components": {"schemas": schemas.all},
    }


def _put_ours(schemas: _Schemas, runs: OwnedRuns) -> JsonSchemaValue:
    """Add the schemas of requests and responses; return those of the parameters of a list."""
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        (Start, "validation"),
        (Listing, "validation"),
        (WholeRun, "serialization"),
        (Runs, "serialization"),
        (Problem, "serialization"),
    ]
    _, generated = models_json_schema(models)
    definitions = generated["$defs"]
    listing: JsonSchemaValue = definitions.pop("Listing")["properties"]
    for name, schema in definitions.items():
        schemas.put(name, schema)
    inputs = schemas.put("Inputs", runs.inputs.schema())
    result = schemas.put("Result", runs.outputs.schema())
    schemas.known("Start")["properties"]["inputs"] = inputs
    schemas.known("WholeRun")["properties"]["result"] = {"anyOf": [result, {"type": "null"}]}
    return listing


def _given(schema: JsonSchemaValue, about: str = "done") -> JsonSchemaValue:
    return {"description": about, **_content(_JSON, schema)}


def _content(kind: str, schema: JsonSchemaValue) -> JsonSchemaValue:
    return {"content": {kind: {"schema": schema}}}


def _answers(runs: OwnedRuns) -> Iterator[JsonSchemaValue]:
    """The schemas of the answers that nodes of the flow ask for, each once."""
    seen: list[object] = []
    for _, graph in runs.flow.graph.levels():
        for vertex in graph.nodes.values():
            if vertex.within or not asks(vertex.node):
                continue
            hint = answer_type(vertex.node).hint
            if hint not in seen:
                seen.append(hint)
                adapter: TypeAdapter[Any] = TypeAdapter(hint)
                yield adapter.json_schema()


class _Schemas:
    """Schemas by name, for the components of a description; names are prefixed by the flow."""

    def __init__(self, owner: str) -> None:
        self._owner = "".join(char if char.isalnum() else "_" for char in owner)
        self.all: JsonSchemaValue = {}

    def known(self, name: str) -> JsonSchemaValue:
        """The schema of a name."""
        schema: JsonSchemaValue = self.all[f"{self._owner}.{name}"]
        return schema

    def reference(self, name: str) -> JsonSchemaValue:
        """A reference to the schema of a name."""
        return {"$ref": f"#/components/schemas/{self._owner}.{name}"}

    def put(self, name: str, schema: JsonSchemaValue) -> JsonSchemaValue:
        """Add a schema, and those of its definitions that it uses; return a reference to it."""
        definitions = schema.get("$defs", {})
        body = {key: part for key, part in schema.items() if key != "$defs"}
        used = _used(body, definitions, {})
        names = {inner: self._name(inner, self._pointed(part, {})) for inner, part in used.items()}
        for inner, part in used.items():
            self.all[names[inner]] = self._pointed(part, names)
        full_name = self._name(name, None)
        self.all[full_name] = self._pointed(body, names)
        return {"$ref": f"#/components/schemas/{full_name}"}

    def _name(self, name: str, schema: JsonSchemaValue | None) -> str:
        """A name that is free, or has exactly this schema."""
        candidate, count = f"{self._owner}.{name}", 1
        while candidate in self.all and self.all[candidate] != schema:
            count += 1
            candidate = f"{self._owner}.{name}{count}"
        return candidate

    def _pointed(self, part: object, names: dict[str, str]) -> Any:
        if isinstance(part, list):
            return [self._pointed(inner, names) for inner in part]
        if not isinstance(part, dict):
            return part
        result = {key: self._pointed(inner, names) for key, inner in part.items()}
        target = result.get("$ref")
        if isinstance(target, str) and target.startswith("#/$defs/"):
            name = target.removeprefix("#/$defs/")
            result["$ref"] = f"#/components/schemas/{names.get(name, f'{self._owner}.{name}')}"
        return result


def _used(part: object, definitions: JsonSchemaValue, used: JsonSchemaValue) -> JsonSchemaValue:
    """The definitions that a schema refers to, transitively."""
    if isinstance(part, list):
        for inner in part:
            _used(inner, definitions, used)
    elif isinstance(part, dict):
        name = str(part.get("$ref", "")).removeprefix("#/$defs/")
        if name in definitions and name not in used:
            used[name] = definitions[name]
            _used(used[name], definitions, used)
        for inner in part.values():
            _used(inner, definitions, used)
    return used
