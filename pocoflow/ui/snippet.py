"""Python code, ready to be pasted, that resumes a run.

The flow is imported if the reader names its module; else it is wired from the recorded graph. Every
value in the code is written with ``repr``, and every name is checked to be an identifier, so that
nothing that a run has recorded can become code.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable
from pathlib import Path

from pocoflow.db import RunRow
from pocoflow.db.postgres import is_server
from pocoflow.graph.fingerprint import Fingerprint, Names, edges_of, levels_of, nodes_of
from pocoflow.ui.steps import Walk
from pocoflow.views.targets import importable

_FLOW_CLASS = "pocoflow.flow.flow:Flow"
_PASTE = "# Paste it below the definitions of: {names}."
_SCHEMA = "# Add schema=, the model of its store: the record has the fields, not the class."


def is_reference(text: str) -> bool:
    """Whether a text is exactly ``module:name`` or ``path/file.py:name``."""
    _, module, name = _parts(text)
    return _is_dotted(module) and _is_dotted(name)


def _parts(reference: str) -> tuple[Path | None, str, str]:
    """The folder that a file is imported from, its module, and the name in it."""
    source, _, name = reference.rpartition(":")
    if not source.endswith(".py"):
        return None, source, name
    return (*importable(Path(source).resolve()), name)


def _is_dotted(text: str) -> bool:
    return all(part.isidentifier() and not keyword.iskeyword(part) for part in text.split("."))


def cancel_snippet(path: str, run_id: str) -> str:
    """Code that asks a run to stop."""
    return (
        f"from pocoflow import WorkflowDB\n\nWorkflowDB({_path(path)}).request_cancel({run_id!r})\n"
    )


def resume_snippet(
    path: str,
    run: RunRow,
    graph: Fingerprint | None,
    walk: Walk,
    *,
    step: int | None = None,
    reference: str = "",
) -> str:
    """Code that resumes a run, or a fork of it.

    Args:
        path: The database.
        run: The run's row.
        graph: Its recorded graph; ``None`` if a version before 0.3 wrote it.
        walk: The path of the run.
        step: Fork from the checkpoint of this step instead.
        reference: The target of the flow, ``module:name`` or ``path/file.py:name``; with ``""`` it
            is wired from the graph.
    """
    if reference and is_reference(reference):
        code = _referenced(path, reference)
    elif graph is not None and not _has_branches(graph):
        code = _Wiring(graph).code(path, str(run["flow_name"]))
    else:
        code = (
            "# The record does not say how this flow is wired: write here where it is.\n"
            "from my_module import flow\n"
        )
    if graph is None:
        return code + _from_checkpoint(path, run, walk, step)
    if step is None:
        return code + f"\nstore = flow.resume({run['run_id']!r})\nprint(store)\n"
    return (
        f"{code}\nrun_id = flow.fork({run['run_id']!r}, step={step})\n"
        "store = flow.resume(run_id)\nprint(run_id, store)\n"
    )


def _has_branches(graph: Fingerprint) -> bool:
    """Whether a node other than a flow contains nodes, such as a parallel one."""
    nodes = nodes_of(graph)
    return any(nodes[name]["class"] != _FLOW_CLASS for name in levels_of(graph) if name)


def _path(path: str) -> str:
    return repr(path if is_server(path) else str(Path(path).absolute()))


def _referenced(path: str, reference: str) -> str:
    folder, module, value = _parts(reference)
    path_setup = "" if folder is None else f"import sys\n\nsys.path.insert(0, {str(folder)!r})\n\n"
    return (
        f"{path_setup}from pocoflow import Flow\nfrom {module} import {value.partition('.')[0]}\n\n"
        f"flow = {value} if isinstance({value}, Flow) else {value}()\n"
        f"# It must keep its runs in {_path(path)}.\n"
    )


def _from_checkpoint(path: str, run: RunRow, walk: Walk, step: int | None) -> str:
    last = max(walk.visits.values(), default=0) and run["total_steps"] - 1
    load = f"WorkflowDB({_path(path)}).load_checkpoint({run['run_id']!r}, step="
    node = walk.current[-1] if walk.current else ""
    return (
        "\nfrom pocoflow import WorkflowDB\n\n"
        f"store = {load}{last if step is None else step})\n"
        f"node = flow.graph.nodes[{node!r}].node\n"
        "flow.run(store, resume_from=node)\n"
    )


class _Wiring:
    """The code that wires a flow like its recorded graph."""

    def __init__(self, graph: Fingerprint) -> None:
        self._nodes, self._edges = nodes_of(graph), edges_of(graph)
        self._levels = levels_of(graph)
        self._names = _variables(self._nodes)
        self._imports = {"pocoflow": {"Flow"}}
        self._undefined: set[str] = set()
        self._has_schema = graph.get("schema") is not None

    def code(self, path: str, flow_name: str) -> str:
        """The imports, the nodes, and the flow in the variable ``flow``."""
        body = self._flow("flow", (), f"flow_name={flow_name!r}, db_path={_path(path)}")
        lines = [f"from pocoflow import {', '.join(sorted(self._imports.pop('pocoflow')))}"]
        lines += [
            f"from {module} import {', '.join(sorted(names))}"
            for module, names in sorted(self._imports.items())
        ]
        if self._undefined:
            lines.append(_PASTE.format(names=", ".join(sorted(self._undefined))))
        if self._has_schema:
            lines.append(_SCHEMA)
        return "\n".join([*lines, "", *body]) + "\n"

    def _flow(self, variable: str, flow: Names, settings: str) -> list[str]:
        inner = self._levels[flow]
        lines: list[str] = []
        for name in inner:
            lines += self._node(name)
        lines.append(f"{variable} = Flow(start={self._names[inner[0]]}, {settings})")
        for source, action, target in self._edges:
            if source in inner:
                lines.append(self._edge(variable, source, action, target))
        return lines

    def _node(self, name: Names) -> list[str]:
        variable = self._names[name]
        own_name = name[-1]
        if name in self._levels:
            return self._flow(variable, name, f"flow_name={own_name!r}")
        definition = str(self._nodes[name]["class"])
        qualified = self._defined(definition)
        if qualified == "Node":
            lines = [f"{variable} = Node()"]
        elif qualified.rpartition(".")[2][:1].islower():  # a function, by the conventions of names
            lines = [] if variable == qualified else [f"{variable} = {qualified}"]
        else:
            lines = [f"{variable} = {qualified}()"]
        if own_name != qualified.rpartition(".")[2]:
            lines.append(f"{variable}.name = {own_name!r}")
        return lines

    def _defined(self, definition: str) -> str:
        module, _, qualified = definition.partition(":")
        if not (_is_dotted(module) and _is_dotted(qualified)):
            name = re.sub(r"\W", "_", qualified.rpartition(".")[2]) or "a_node"
            self._undefined.add(name)
            return name
        if module == "__main__":
            self._undefined.add(qualified)
        else:
            source = "pocoflow" if definition == "pocoflow.nodes.base:Node" else module
            self._imports.setdefault(source, set()).add(qualified.partition(".")[0])
        return qualified

    def _edge(self, flow: str, source: Names, action: str, target: Names | None) -> str:
        head = "END" if target is None else self._names.get(target, "END")
        if head == "END":
            self._imports["pocoflow"].add("END")
        tail = self._names[source]
        if action != "default":
            tail = f"{tail}.when({action!r})"
        return f"{flow}.then({tail}, {head})"


def _variables(nodes: Iterable[Names]) -> dict[Names, str]:
    """A variable for each node: unique, and its name in snake case."""
    variables: dict[Names, str] = {}
    taken = {"flow", "store", "run_id", "node"}
    for name in nodes:
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", "_".join(name))
        base = re.sub(r"[^a-z0-9]+", "_", words.lower())[:40].strip("_") or "node"
        base = f"node_{base}" if base[0].isdigit() or keyword.iskeyword(base) else base
        variable, number = base, 2
        while variable in taken:
            variable, number = f"{base}_{number}", number + 1
        taken.add(variable)
        variables[name] = variable
    return variables
