"""PF2: annotations against the schema, and the phases of a node against each other."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import CoroutineType, FunctionType, NoneType
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from pocoflow.check.assignable import clash, fits, fits_field
from pocoflow.check.class_rules import check_class, given_to_post, hints_of
from pocoflow.check.findings import Finding, Severity
from pocoflow.check.flat import Spot
from pocoflow.check.item_rules import item_of
from pocoflow.check.node_effects import Locations
from pocoflow.check.schemas import fields_of
from pocoflow.check.source import is_a, knows_name
from pocoflow.check.subject import Site, Subject
from pocoflow.graph.graph import Vertex, label
from pocoflow.messages import closest, package_of, short, type_label
from pocoflow.nodes.annotations import awaited, plain, unknown_names
from pocoflow.nodes.base import AnyNode
from pocoflow.nodes.definitions import location_of
from pocoflow.nodes.function import AnyFunctionNode, FunctionNode
from pocoflow.nodes.parallel import FanOut, SplitNode
from pocoflow.nodes.signature import Signature, definition_location
from pocoflow.store.fields import StoreField
from pocoflow.store.store import Store
from pocoflow.values.callables import forgets_to_return
from pocoflow.values.failures import Failure

_ATTRIBUTES = [name for name in dir(Store) if not name.startswith("_")]


def check_types(subject: Subject) -> Iterator[Finding]:
    """Every finding of the family PF2."""
    for at in subject.definitions:
        if subject.fields:
            yield from _unknown_fields(subject, at)
            yield from _stores(subject, at)
            yield from _written_values(subject, at)
            yield from _failures(subject, at)
        yield from _attributes(subject, at)
        if isinstance(at.vertex.node, FunctionNode):
            yield from _unresolved(subject, at, at.vertex.node.signature)
            yield from _parameters(subject, at, at.vertex.node)
            yield from _result(subject, at, at.vertex.node)
        else:
            yield from check_class(subject, at)
    yield from _none_at_first(subject)
    yield from _nested_schemas(subject)
    yield from _unknown_ends(subject)


def _unknown_ends(subject: Subject) -> Iterator[Finding]:
    outputs = () if subject.is_inner else subject.outputs or ()  # links are checked elsewhere
    for kind, keys in (("input", subject.inputs or ()), ("output", outputs)):
        for key in keys:
            yield from subject.lacking(f"the flow has the {kind}", key, subject.fields)


def _unknown_fields(subject: Subject, site: Site) -> Iterator[Finding]:
    vertex = site.vertex
    effects, fields = subject.effects(vertex), subject.fields
    asked = {key: at for key, at in effects.looks.items() if fields.lacks(key)}
    likely = {key: at for key, at in asked.items() if closest(key, fields.names)}
    told: set[str] = set()
    kinds: tuple[tuple[Severity, Locations], ...] = (
        (subject.unless_caught(vertex), effects.named),
        ("warning", effects.doubtful),
        ("warning", likely),
    )
    for severity, keys in kinds:
        for key, at in keys.items():
            if not fields.lacks(key) or key in told:
                continue
            told.add(key)
            how = _how(vertex, key)
            if how is None:
                how = "asks for" if keys is likely else "reads"
                how = "writes" if key in effects.writes else how
            yield from subject.lacking(
                f"it {how}",
                key,
                fields,
                supplying(vertex, key),
                at=site,
                node=at.node,
                where=at.where,
                severity=severity,
            )


def _attributes(subject: Subject, site: Site) -> Iterator[Finding]:
    """Unknown attributes of the store; a warning, as a run may be given one of another class.

    Nothing is reported if an annotation names that class.
    """
    unknown = subject.effects(site.vertex).unknown_attributes
    every = (hint for _, hints in _phases_with_store(site.vertex) for hint in hints.values())
    origins = (get_origin(hint) or hint for hint in every)
    kinds = [kind for kind in origins if is_a(kind, type)] if unknown else []
    for attribute, at in unknown.items():
        if attribute == "name":
            if attribute not in subject.fields:
                continue
            what = f"which is the name of the store, and not the field of {subject.fields.label}"
            near = ""
        elif any(issubclass(kind, Store) and hasattr(kind, attribute) for kind in kinds):
            continue
        else:
            near = "" if attribute in subject.fields else closest(attribute, _ATTRIBUTES)
            what = f"an attribute that a store does not have{near}"
        yield subject.finding(
            "PF201",
            f"it uses store.{attribute}, {what}",
            "correct the name" if near else f"write store[{attribute!r}] for a value in the store",
            at=site,
            node=at.node,
            where=at.where,
            severity="warning",
        )


def supplying(vertex: Vertex, key: str) -> str:
    """The addition to an advice if a decorator may supply what is missing; else nothing."""
    wrapped = isinstance(vertex.node, FunctionNode) and hasattr(
        vertex.node.signature.function, "__wrapped__"
    )
    return f"; if a decorator supplies it, @node(supplied=({key!r},))" if wrapped else ""


def _how(vertex: Vertex, key: str) -> str | None:
    """The use of a field by a function node, as text."""
    if isinstance(vertex.node, FunctionNode):
        each = vertex.node.signature.each
        if each is not None and each.name == key:
            return "works on each item of"
        for param in vertex.node.signature.parameters:
            if param.field is not None and param.field.name == key:
                return f"has the parameter {param.name!r} for field"
    if isinstance(vertex.node, SplitNode) and key in vertex.node.private:
        return "has the private field"
    if isinstance(vertex.node, FanOut) and key == vertex.node.item:
        return "gives each item to its branch as"
    return None


def _failures(subject: Subject, at: Site) -> Iterator[Finding]:
    """The type of the field that receives the failures of branches."""
    field = at.vertex.node.errors if isinstance(at.vertex.node, SplitNode) else None
    if field is None or subject.fields.lacks(field):
        return
    yield from subject.misfit(
        f"errors= writes list[Failure] to field {field!r}, which holds",
        list[Failure],
        subject.fields.increment(field),
        "let the field hold list[Failure]",
        at=at,
    )


def _unresolved(subject: Subject, at: Site, signature: Signature) -> Iterator[Finding]:
    """Annotations with a name that is not defined in the file of the function."""
    for owner, hint in signature.hints.items():
        for name in unknown_names(hint):
            if not knows_name(signature.function, name):
                what = "what it returns" if owner == "return" else f"parameter {owner!r}"
                yield subject.finding(
                    "PF210",
                    f"the annotation of {what} names {name!r}, which is defined nowhere in its "
                    "file, so it is not looked at",
                    "correct the name, or import it",
                    at=at,
                )


def _parameters(subject: Subject, at: Site, node: AnyFunctionNode) -> Iterator[Finding]:
    hints = node.signature.hints
    for param in node.signature.parameters:
        hint = hints.get(param.name, Any)
        if param.resource is not None:
            given, gives = param.resource.__facts__.kind, f" and takes {param.resource!r}"
            instead = "take another resource"
        elif param.field is not None:
            given = subject.fields.held(param.field)
            gives = f" for {_holder(subject, param.field)} holds {type_label(given)}"
            instead = "change the field"
        else:
            continue
        if not fits(given, hint):
            yield subject.finding(
                "PF202",
                f"parameter {param.name!r} is annotated as {type_label(hint)}{gives}",
                f"annotate it as {type_label(given)}, or {instead}",
                at=at,
                types=(given, hint),
                severity=clash(given, hint),
            )


def _none_at_first(subject: Subject) -> Iterator[Finding]:
    """Parameters that do not allow ``None``, whose fields are ``None`` until they are written.

    Only nodes that every run reaches, up to the first choice, and fields that are not inputs by all
    appearances.
    """
    if subject.fields.model is None or subject.has_writers or not subject.is_start:
        return
    fields = subject.fields.model.model_fields
    unset = {key for key, field in fields.items() if field.default is None}
    if subject.inputs is None:
        every = [subject.effects(spot.vertex) for spot in subject.walk.spots]
        unset &= {key for effects in every for key in effects.writes}
    unset -= {*(subject.inputs or ())}
    spot: Spot | None = subject.walk.start
    came: set[Spot] = set()
    while unset and spot is not None and spot not in came:
        came.add(spot)
        if isinstance(spot.vertex.node, FunctionNode):
            yield from _takes_no_none(subject, spot, spot.vertex.node.signature, unset)
        effects = subject.effects(spot.vertex)
        unset = set() if effects.writes_more else unset - effects.writes.keys()
        after = {way.target for way in spot.ways if way.catch is None}
        spot = after.pop() if len(after) == 1 else None


def _takes_no_none(
    subject: Subject, spot: Spot, signature: Signature, unset: set[str]
) -> Iterator[Finding]:
    given = signature.parameters if signature.each is None else signature.parameters[1:]
    for param in given:
        hint = signature.hints.get(param.name, Any)
        if param.field is None or param.field.name not in unset or fits(NoneType, hint):
            continue
        yield subject.finding(
            "PF202",
            f"parameter {param.name!r} is annotated as {type_label(hint)}, and field "
            f"{param.field.name!r} is None here, its default: nothing has written it by then",
            f"annotate it as {type_label(hint)} | None, or write the field before",
            node=spot.name,
            where=definition_location(signature.function),
            severity="warning",
        )


def _takes_none(subject: Subject, signature: Signature) -> bool:
    """Whether a function may return ``None``, for each item if it works on several."""
    if signature.unpacks:
        return False
    (field,) = signature.writes
    given: object = type(None) if signature.each is None else list[None]
    return fits_field(given, _taken(subject, field))


def _result(subject: Subject, at: Site, node: AnyFunctionNode) -> Iterator[Finding]:
    signature = node.signature
    if not signature.writes:
        return
    if forgets_to_return(signature.function) and not _takes_none(subject, signature):
        written = ", ".join(repr(field.name) for field in signature.writes)
        yield subject.finding(
            "PF203",
            f"it always returns None, and writes that to {written}: is a 'return' missing?",
            "return what the function has made, or take writes= out",
            at=at,
            severity=subject.unless_caught(at.vertex),
        )
        return
    if "return" not in signature.hints:
        return
    hint = signature.hints["return"]
    given = [hint if signature.is_async else awaited(hint)]
    if signature.unpacks:
        parts = get_args(plain(given[0]))
        if get_origin(plain(given[0])) is not tuple or ... in parts:
            if not fits(given[0], tuple):
                yield subject.finding(
                    "PF203",
                    f"it writes {len(signature.writes)} fields and returns {type_label(given[0])}",
                    f"return a tuple of {len(signature.writes)} values",
                    at=at,
                )
            return
        given = list(parts)
    for field, hint in zip(signature.writes, given, strict=True):
        yield from _part(subject, at, field, hint, signature.each)


def _part(
    subject: Subject, at: Site, field: StoreField, given: object, each: StoreField | None
) -> Iterator[Finding]:
    """Mistakes in the result of a function for one field."""
    takes, severity = _taken(subject, field), subject.unless_caught(at.vertex)
    # With a schema, the type of the increments of a field is known.
    if not subject.fields and fields_of(field.model).reduces(field.name):
        yield subject.finding(
            "PF203",
            f"it writes an increment to field {field}, and the flow has no schema, so that no "
            "reducer is known: what it returns takes the place of the value",
            f"give the flow the schema, Flow(..., schema={str(field).partition('.')[0]})",
            at=at,
            severity="warning" if fits_field(given, takes) else severity,
        )
        return
    is_reduced = subject.fields.reduces(field.name)  # and the type of its increments is known
    how_bad = _against_increment(given, takes) if is_reduced else _against(given, takes)
    if how_bad is None:
        return
    verb, fix = "holds", f"return {type_label(takes)}, or change the field"
    if is_reduced:
        verb = "has a reducer that takes"
        fix = f"return {type_label(takes)}: with append it is one item, writes=item(...), and "
        fix += "extend takes several"
    said = f"it returns {type_label(given)}"
    if each is not None:
        said = f"the list of what it returns is {type_label(given)},"
        fix = f"let writes= name a field that holds {type_label(given)}, or return something else"
    yield subject.finding(
        "PF203",
        f"{said} for {_holder(subject, field, 'writes=')} {verb} {type_label(takes)}",
        fix,
        at=at,
        types=(given, takes),
        severity="warning" if severity == "warning" else how_bad,
    )


def _holder(subject: Subject, field: StoreField, by: str = "") -> str:
    """A field with its type, for messages, and its model, if a reference names another one."""
    schema = subject.fields.model
    if field.model is None or schema is None or issubclass(schema, field.model):
        return f"field {field}, which"
    return f"{by}{field}, but this flow's schema is {subject.fields.label}, whose {field.name!r}"


def _taken(subject: Subject, field: StoreField) -> object:
    fields = subject.fields
    return fields.increment(field.name) if fields else fields.held(field)


def _written_values(subject: Subject, at: Site) -> Iterator[Finding]:
    """Writes of values that the source shows."""
    vertex = at.vertex
    effects, fields = subject.effects(vertex), subject.fields
    hints: Mapping[str, object] | None = None
    is_fatal = subject.unless_caught(vertex) == "error"
    for write in effects.values:
        value, takes, why = write.value, fields.takes(write.key), ""
        severity: Severity | None = None
        if value.parameter is not None:
            hints = _hints_of(subject, vertex) if hints is None else hints
            given = hints.get(value.parameter, Any)
            shown = f"{value.parameter!r}, {_one(given)},"
            severity = _against(given, takes)
        elif value.kind is not None:
            given = value.kind
            shown = _one(given)
            severity = _against(given, takes)
        else:
            given = type(value.constant)
            shown = short(value.constant)
            severity, why = fields.refuses(write.key, value.constant) or (None, "")
        if write.key in fields and severity is not None:
            fits_type = fits_field(given, takes)  # then the mistake is another one
            right = "write what it takes" if fits_type else f"write {type_label(takes)}"
            yield subject.finding(
                "PF203",
                f"it writes {shown} to field {write.key!r}, which holds {type_label(takes)}"
                + (f": {why}" if fits_type else ""),
                f"{_BEFORE.get(value.kind, right)}, or change the field",
                at=at,
                types=(given, takes),
                where=write.location.where,
                severity=severity if write.is_certain and is_fatal else "warning",
            )


_BEFORE: Mapping[object, str] = {CoroutineType: "await it in an async def", FunctionType: "call it"}
"""What is to be done with a value before it is written."""


def _one(kind: object) -> str:
    """A value of a type, for messages."""
    label = type_label(kind)
    return f"an {label}" if label[0] in "aeiouAEIO" else f"a {label}"


def _against(given: object, takes: object) -> Severity | None:
    return None if fits_field(given, takes) else clash(given, takes)


def _against_increment(given: object, takes: object) -> Severity | None:
    """The same for an increment; the characters of a text are never meant as items."""
    is_text = get_origin(takes) is Iterable and item_of(given) is None
    return "error" if is_text else _against(given, takes)


def _hints_of(subject: Subject, vertex: Vertex) -> Mapping[str, object]:
    """The types of the parameters of the function of a node that writes."""
    if isinstance(vertex.node, FunctionNode):
        return vertex.node.signature.hints
    kind: Any = type(vertex.node)
    given = (
        {} if any(at.graph.middleware.attempts for at in subject.levels) else given_to_post(kind)
    )
    hints = hints_of(kind.post)
    return {**hints, **{name: kind for name, kind in given.items() if hints.get(name, Any) is Any}}


def _stores(subject: Subject, at: Site) -> Iterator[Finding]:
    model = subject.fields.model
    if model is None:
        return
    for function, hints in _phases_with_store(at.vertex):
        for parameter, hint in hints.items():
            other = _model_of(hint)
            if other is not None and parameter != "return" and not issubclass(model, other):
                yield subject.finding(
                    "PF206",
                    f"{function.__name__} takes a Store[{other.__name__}], the flow's schema is "
                    f"{model.__name__}",
                    f"annotate it as Store[{model.__name__}], or as a Store of a base class of it",
                    at=at,
                    types=(other, model),
                    where=definition_location(function),
                )


def _phases_with_store(
    vertex: Vertex,
) -> Iterator[tuple[Callable[..., object], Mapping[str, object]]]:
    """The functions of a node that may receive the store, with their annotations."""
    if isinstance(vertex.node, FunctionNode):
        signature = vertex.node.signature
        if signature.takes_store:
            yield signature.function, signature.hints
        return
    for function in (type(vertex.node).prep, type(vertex.node).post):
        if inspect.isfunction(function) and package_of(function) != "pocoflow":
            yield function, hints_of(function)


def _model_of(hint: object) -> type[BaseModel] | None:
    hint = plain(hint)
    kind = get_origin(hint)
    if not (isinstance(kind, type) and issubclass(kind, Store)):
        return None
    inner = plain(get_args(hint)[0])
    return inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None


def _nested_schemas(subject: Subject) -> Iterator[Finding]:
    model = subject.fields.model
    for path, flow, severity in _nested(subject):
        inner = getattr(flow, "schema", None)
        if not isinstance(inner, type) or (model is not None and issubclass(model, inner)):
            continue
        name = inner.__name__
        if model is not None:
            around = f"the flow around it {model.__name__}, and both work on one store"
            fix = f"let {model.__name__} be a subclass of {name}, or give both one schema"
        elif subject.fields:
            continue  # a dict of types, which may be equivalent
        else:
            around, severity = "the flow around it none, so that this one does not count", "warning"
            fix = f"give the flow around it the schema, too: Flow(..., schema={name})"
        yield subject.finding(
            "PF206",
            f"the nested flow has the schema {name}, {around}",
            fix,
            types=(inner, model),
            node=label(path[-1], path[:-1]),
            where=location_of(flow),
            severity=severity,
        )


def _nested(subject: Subject) -> Iterator[tuple[tuple[str, ...], AnyNode, Severity]]:
    """The flows on the same store, with their names, and the severity of another schema there."""
    branches = {level.path for level in subject.levels if isinstance(level.node, SplitNode)}
    for level in subject.levels:
        if level.node is not None and not isinstance(level.node, SplitNode):
            is_branch = level.path[:-1] in branches
            yield level.path, level.node, "warning" if is_branch else "error"
