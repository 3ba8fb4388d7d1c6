"""The part of the JSON schema of SARIF 2.1.0 that covers what ``pocoflow check`` writes.

Every object is closed, as in the schema of the standard (OASIS, sarif-schema-2.1.0.json): a
property that the standard does not have is an error here, and so is one that this file leaves out.
"""

from typing import Any


def closed(required: list[str], **properties: Any) -> dict[str, Any]:
    """An object with these properties and no others."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": required,
        "properties": properties,
    }


def array(of: Any, *, least: int = 0, unique: bool = True) -> dict[str, Any]:
    """An array of one kind of items."""
    return {"type": "array", "items": of, "minItems": least, "uniqueItems": unique}


TEXT = {"type": "string"}
LEVEL = {"enum": ["none", "note", "warning", "error"]}

MULTIFORMAT = closed(["text"], text=TEXT, markdown=TEXT)

DESCRIPTOR = closed(
    ["id"],
    id=TEXT,
    name=TEXT,
    shortDescription=MULTIFORMAT,
    fullDescription=MULTIFORMAT,
    defaultConfiguration=closed([], level=LEVEL),
    help=MULTIFORMAT,
    helpUri={"type": "string", "format": "uri"},
)

LOCATION = closed(
    [],
    physicalLocation={
        **closed(
            [],
            artifactLocation=closed([], uri={"type": "string", "format": "uri-reference"}),
            region=closed([], startLine={"type": "integer", "minimum": 1}),
        ),
        "anyOf": [{"required": ["address"]}, {"required": ["artifactLocation"]}],
    },
    logicalLocations=array(closed([], name=TEXT, fullyQualifiedName=TEXT, kind=TEXT)),
)

RESULT = closed(
    ["message"],
    ruleId=TEXT,
    ruleIndex={"type": "integer", "minimum": -1},
    level=LEVEL,
    message={**closed([], text=TEXT), "anyOf": [{"required": ["text"]}, {"required": ["id"]}]},
    locations=array(LOCATION, unique=False),
)

RUN = closed(
    ["tool"],
    tool=closed(
        ["driver"],
        driver=closed(
            ["name"], name=TEXT, version=TEXT, informationUri=TEXT, rules=array(DESCRIPTOR)
        ),
    ),
    results=array(RESULT, unique=False),
    columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
)

SCHEMA: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    **closed(
        ["version", "runs"],
        **{"$schema": {"type": "string", "format": "uri"}},
        version={"enum": ["2.1.0"]},
        runs={"type": ["array", "null"], "minItems": 0, "uniqueItems": False, "items": RUN},
    ),
}
