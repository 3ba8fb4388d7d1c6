"""A flow is the same flow whether its file was started as a script or imported."""

from pocoflow.graph.fingerprint import Fingerprint, differences


def flow_of(label: str) -> Fingerprint:
    """The fingerprint of a flow of one node."""
    nodes = [{"path": ["Ask"], "class": label, "code": "0"}]
    return {"start": "Ask", "nodes": nodes, "edges": [], "schema": None}


def test_a_script_and_its_module_are_one_definition() -> None:
    """A run that a script has started can be resumed by a program that imports it."""
    assert differences(flow_of("__main__:Ask"), flow_of("app:Ask")) == []
    assert differences(flow_of("app:Ask"), flow_of("__main__:Ask")) == []


def test_another_class_or_module_is_a_difference() -> None:
    """A node that another class or module defines now is told of."""
    assert differences(flow_of("app:Ask"), flow_of("web:Ask")) == [
        "node 'Ask' was app:Ask, is web:Ask"
    ]
    assert differences(flow_of("__main__:Ask"), flow_of("app:Tell")) == [
        "node 'Ask' was __main__:Ask, is app:Tell"
    ]
