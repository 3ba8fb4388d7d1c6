"""The OpenAPI description of the runs of a flow, from its schema and its questions."""

from __future__ import annotations

from collections.abc import Mapping
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

_OURS: list[tuple[type[BaseModel], JsonSchemaMode]] = [
    (Start, "validation"),
    (Listing, "validation"),
    (WholeRun, "serialization"),
    (Runs, "serialization"),
    (Problem, "serialization"),
]
"""The models of requests and responses."""

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
    owner = "".join(char if char.isalnum() else "_" for char in name)
    schemas = _schemas(runs, owner)
    listing = schemas.pop(f"{owner}.Listing")["properties"]

    def reference(part: str) -> JsonSchemaValue:
        return {"$ref": f"#/components/schemas/{owner}.{part}"}

    run, problem = reference("WholeRun"), _content(_JSON, reference("Problem"))
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
        {200: _given(reference("Runs"))},
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
        requestBody=body(reference("Start")),
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
    taken = {"parameters": [_ID, _NUMBER], "requestBody": body(reference("Answering"))}
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
        "components": {"schemas": schemas},
    }


def _schemas(runs: OwnedRuns, owner: str) -> JsonSchemaValue:
    """The schemas of requests and responses, by their names, which begin with that of the flow."""
    schemas: JsonSchemaValue = {}

    def template(part: str) -> str:
        """The template of references to the definitions in the schema of a part."""
        return f"#/components/schemas/{owner}.{part}.{{model}}"

    def put(part: str, schema: JsonSchemaValue) -> JsonSchemaValue:
        for key, definition in schema.pop("$defs", {}).items():
            schemas[f"{owner}.{part}.{key}"] = definition
        schemas[f"{owner}.{part}"] = schema
        return {"$ref": f"#/components/schemas/{owner}.{part}"}

    _, ours = models_json_schema(_OURS, ref_template=f"#/components/schemas/{owner}.{{model}}")
    for part, schema in ours["$defs"].items():
        put(part, schema)
    inputs = put("Inputs", runs.inputs.schema(template("Inputs")))
    result = put("Result", runs.outputs.schema(template("Result")))
    schemas[f"{owner}.Start"]["properties"]["inputs"] = inputs
    properties = schemas[f"{owner}.WholeRun"]["properties"]
    properties["result"] = {"anyOf": [result, {"type": "null"}]}
    answers = []
    for number, hint in enumerate(_answers(runs), 1):
        part, adapter = f"Answer{number}", TypeAdapter[Any](hint)
        answers.append(put(part, adapter.json_schema(ref_template=template(part))))
    answering = {
        "type": "object",
        "properties": {"answer": answers[0] if len(answers) == 1 else {"anyOf": answers}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    put("Answering", answering)
    return schemas


def _given(schema: JsonSchemaValue, about: str = "done") -> JsonSchemaValue:
    return {"description": about, **_content(_JSON, schema)}


def _content(kind: str, schema: JsonSchemaValue) -> JsonSchemaValue:
    return {"content": {kind: {"schema": schema}}}


def _answers(runs: OwnedRuns) -> list[Any]:
    """The types of the answers that nodes of the flow ask for, each once; any without questions."""
    hints: list[Any] = []
    for _, graph in runs.flow.graph.levels():
        for vertex in graph.nodes.values():
            if not vertex.within and asks(vertex.node):
                hint = answer_type(vertex.node).hint
                hints += [] if hint in hints else [hint]
    return hints or [Any]
