"""The documented library, section by section: every code block, as it is written.

The blocks are executed verbatim, with stand-ins for what is not ours (``llm``, ``fetch``,
``alert``) and, where a block names a folder under ``/tmp``, with a folder of the test instead.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import logging
import os
import re
import sqlite3
import subprocess
import sys
import threading
import tomllib
import warnings
from collections.abc import Iterator
from contextlib import closing, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pocketflow
import pytest

import pocoflow
from pocoflow import AsyncNode, Flow, Node, Store, WorkflowDB
from pocoflow.logging import disable_logging, get_logger

WAIT = 30.0


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The documented examples write ``pocoflow.db`` and ``logs/`` where they are run."""
    monkeypatch.chdir(tmp_path)


def run_block(
    block: str, refused: dict[str, type[Exception]] | None = None, **names: Any
) -> dict[str, Any]:
    """Execute a block statement by statement, and return the names that it leaves.

    Args:
        block: The code, as documented.
        refused: Source of statements that must raise, with the exception that they raise.
        names: What the block expects to be there.
    """
    refused = dict(refused or {})
    namespace: dict[str, Any] = {"__name__": "documented", **names}
    for statement in ast.parse(block).body:
        source = ast.get_source_segment(block, statement) or ""
        expected = refused.pop(source, None)
        code = compile(ast.Module([statement], []), "<documented>", "exec")
        with pytest.raises(expected) if expected else nullcontext():
            exec(code, namespace)  # noqa: S102 - the documented code is what is tested
    assert not refused
    return namespace


class Action(Node):
    """Returns the action that it is given, and notes that it ran."""

    def __init__(self, name: str, action: str = "ok") -> None:
        self.name = name
        self.action = action

    def post(self, store: Store[Any], prep_result: object, exec_result: object) -> str:
        store["trail"] = [*store.get("trail", []), self.name]
        return self.action


# -- Install ------------------------------------------------------------------------------------


def test_install() -> None:
    """The package, its two dependencies and its extras are called as documented."""
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())[
        "project"
    ]
    assert project["name"] == "pocoflow"
    names = {re.split(r"[<>=\[]", line)[0] for line in project["dependencies"]}
    assert {"pocketflow", "dd-logging"} <= names
    assert {"ui", "dev"} <= set(project["optional-dependencies"])


# -- Quick Start --------------------------------------------------------------------------------

QUICK_START = """
from pocoflow import Node, Flow, Store

class SummariseNode(Node):
    def prep(self, store):
        return store["document"]

    def exec(self, text):
        return llm.summarise(text)          # your LLM call here

    def post(self, store, prep, summary):
        store["summary"] = summary
        return "done"

store = Store({"document": "...", "summary": ""})
Flow(start=SummariseNode(), db_path="pocoflow.db", flow_name="summarise").run(store)
print(store["summary"])
"""


def test_quick_start(capsys: pytest.CaptureFixture[str]) -> None:
    """The first example prints the summary and leaves a completed run in the database."""
    llm = SimpleNamespace(summarise=lambda text: f"summary of {text}")
    run_block(QUICK_START, llm=llm)
    assert capsys.readouterr().out == "summary of ...\n"
    with WorkflowDB("pocoflow.db") as db:
        (run,) = db.list_runs()
    assert run["flow_name"] == "summarise"
    assert run["status"] == "completed"
    assert run["total_steps"] == 1


# -- Core Concepts: Node ------------------------------------------------------------------------

NODE = """
from pocoflow import Node

class CallLLMNode(Node):
    max_retries = 3       # retry exec() automatically on failure
    retry_delay = 1.0     # seconds between retries

    def prep(self, store):
        return store["prompt"]

    def exec(self, prompt):
        return llm.call(prompt)   # retried up to 3× on exception

    def post(self, store, prep, response):
        store["response"] = response
        return "done"
"""


@pytest.mark.parametrize("failures", [0, 2, 3])
def test_node(failures: int) -> None:
    """``exec`` is tried up to three times; the third failure is raised."""
    prompts: list[str] = []

    def call(prompt: str) -> str:
        prompts.append(prompt)
        if len(prompts) <= failures:
            raise ConnectionError(f"failure {len(prompts)}")
        return "answer"

    kind = run_block(NODE, llm=SimpleNamespace(call=call))["CallLLMNode"]
    assert (kind.max_retries, kind.retry_delay) == (3, 1.0)
    node = kind()
    node.retry_delay = 0.001
    store = Store({"prompt": "why?"})
    if failures < 3:
        Flow(start=node).run(store)
        assert store["response"] == "answer"
    else:
        with pytest.raises(ConnectionError, match="failure 3"):
            Flow(start=node).run(store)
    assert prompts == ["why?"] * min(failures + 1, 3)


def test_node_phases_run_in_order_and_exec_needs_no_store() -> None:
    """``prep`` | ``exec`` | ``post``: extract, transform, load and route."""
    order: list[str] = []

    class Traced(Node):
        def prep(self, store: Store[Any]) -> int:
            order.append("prep")
            return cast(int, store["x"])

        def exec(self, x: int) -> int:
            order.append("exec")
            return x * 2

        def post(self, store: Store[Any], prep: int, doubled: int) -> str:
            order.append("post")
            store["y"] = (prep, doubled)
            return "done"

    assert Traced().exec(21) == 42
    assert Flow(start=Traced()).run({"x": 1})["y"] == (1, 2)
    assert order == ["exec", "prep", "exec", "post"]


# -- Core Concepts: Store -----------------------------------------------------------------------

STORE = """
from pocoflow import Store

store = Store(
    data={"query": "", "result": ""},
    schema={"query": str, "result": str},   # type-checked on every write
    name="my_pipeline",
)
store["query"] = "explain quantum entanglement"
store["query"] = 42          # ← raises TypeError immediately

# Observer: fired on every write (logging, tracing, UI updates)
store.add_observer(lambda key, old, new: print(f"{key}: {old!r} → {new!r}"))

# JSON snapshot / restore (lightweight backup)
store.snapshot("/tmp/run_42/step_002.json")
store2 = Store.restore("/tmp/run_42/step_002.json")
"""


def test_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong type raises ``TypeError``, an observer prints writes, a snapshot restores equal."""
    block = STORE.replace("/tmp/", f"{tmp_path}/")
    names = run_block(block, refused={'store["query"] = 42': TypeError})
    store, restored = names["store"], names["store2"]
    assert store == restored == {"query": "explain quantum entanglement", "result": ""}
    assert restored.name == "my_pipeline"
    assert (tmp_path / "run_42" / "step_002.json").is_file()
    store["result"] = "spooky"
    assert capsys.readouterr().out == "result: '' → 'spooky'\n"


# -- Core Concepts: Flow ------------------------------------------------------------------------

FLOW = """
from pocoflow import Flow, Store

# Wire nodes with unambiguous named edges
a.then("ok",    b)
a.then("error", c)
a.then("*",     fallback)   # wildcard: matches any unhandled action

# Build with SQLite persistence
flow = Flow(
    start=a,
    flow_name="my_pipeline",    # label shown in the monitor UI
    db_path="pocoflow.db",      # SQLite: runs, events, checkpoints
    checkpoint_dir="/tmp/ckpt", # also write JSON snapshots (optional)
    max_steps=50,               # guard against infinite loops
)

# Hooks — wire to any logger, metrics sink, or progress bar
flow.on("node_start", lambda name, store: print(f"▶ {name}"))
flow.on("node_end",   lambda name, action, elapsed, store:
                          print(f"✓ {name} → {action}  ({elapsed:.2f}s)"))
flow.on("node_error", lambda name, exc, store: alert(name, exc))
flow.on("flow_end",   lambda steps, store: print(f"Done in {steps} steps"))

store = Store({"query": "..."})
flow.run(store)
"""


@pytest.mark.parametrize(
    ("action", "second"), [("ok", "B"), ("error", "C"), ("anything", "Fallback")]
)
def test_flow(tmp_path: Path, capsys: pytest.CaptureFixture[str], action: str, second: str) -> None:
    """Edges, wildcard, database, JSON checkpoints and the four hooks do what they say."""
    nodes: dict[str, Any] = {"a": Action("A", action), "b": Action("B"), "c": Action("C")}
    names = run_block(
        FLOW.replace("/tmp/", f"{tmp_path}/"), **nodes, fallback=Action("Fallback"), alert=print
    )
    assert names["store"] == {"query": "...", "trail": ["A", second]}
    assert re.sub(r"\(\d+\.\d\ds\)", "(0.00s)", capsys.readouterr().out).splitlines() == [
        "▶ A",
        f"✓ A → {action}  (0.00s)",
        f"▶ {second}",
        f"✓ {second} → ok  (0.00s)",
        "Done in 2 steps",
    ]
    files = sorted(file.name for file in (tmp_path / "ckpt").iterdir())
    assert files == ["step_000_A.json", f"step_001_{second}.json"]
    with WorkflowDB("pocoflow.db") as db:
        (run,) = db.list_runs()
        assert (run["flow_name"], run["status"]) == ("my_pipeline", "completed")
        assert db.load_checkpoint(run["run_id"], step=1) == names["store"]
    assert Store.restore(tmp_path / "ckpt" / files[-1]) == names["store"]


def test_flow_tells_of_errors(tmp_path: Path) -> None:
    """``node_error`` calls ``alert`` with the name and the exception, which is raised as well."""
    alerts: list[tuple[str, Exception]] = []
    error = ValueError("broken")

    class Broken(Node):
        def exec(self, prep_result: object) -> None:
            raise error

    with pytest.raises(ValueError, match="broken"):
        run_block(
            FLOW.replace("/tmp/", f"{tmp_path}/"),
            a=Broken(),
            b=Action("B"),
            c=Action("C"),
            fallback=Action("Fallback"),
            alert=lambda name, exc: alerts.append((name, exc)),
        )
    assert alerts == [("Broken", error)]


def test_flow_guards_against_infinite_loops() -> None:
    """``max_steps`` ends a loop with an error that names it; nothing is left running."""
    a = Action("A")
    a.then("ok", a)
    flow = Flow(start=a, max_steps=50, db_path="pocoflow.db")
    with pytest.raises(RuntimeError, match="max_steps"):
        flow.run(store := Store())
    assert len(store["trail"]) == 50
    with WorkflowDB("pocoflow.db") as db:
        (run,) = db.list_runs()
    assert run["status"] == "failed"
    assert "max_steps" in (run["error_msg"] or "")


# -- Core Concepts: AsyncNode -------------------------------------------------------------------

ASYNC_NODE = """
from pocoflow import AsyncNode
import asyncio

class FetchNode(AsyncNode):
    def prep(self, store):
        return store["urls"]

    async def exec_async(self, urls):
        return await asyncio.gather(*[fetch(u) for u in urls])

    def post(self, store, prep, results):
        store["pages"] = results
        return "done"
"""


@pytest.mark.parametrize("inside", [False, True], ids=["script", "running loop"])
def test_async_node(inside: bool) -> None:
    """All pages are fetched at the same time, in a script and inside a running loop."""
    meeting: list[asyncio.Barrier] = []

    async def fetch(url: str) -> str:
        if not meeting:
            meeting.append(asyncio.Barrier(3))
        async with asyncio.timeout(WAIT):
            await meeting[0].wait()
        return f"page of {url}"

    node = run_block(ASYNC_NODE, fetch=fetch)["FetchNode"]()
    assert isinstance(node, AsyncNode)
    shared: dict[str, Any] = {"urls": ["a", "b", "c"]}

    async def main() -> None:
        Flow(start=node).run(shared)

    if inside:
        asyncio.run(main())
    else:
        Flow(start=node).run(shared)
    assert shared["pages"] == ["page of a", "page of b", "page of c"]


# -- SQLite Backend -----------------------------------------------------------------------------

SQLITE = """
from pocoflow import WorkflowDB

db = WorkflowDB("pocoflow.db")

# List all runs
for run in db.list_runs():
    print(run["run_id"], run["status"], run["total_steps"])

# Inspect events for a run
for event in db.get_events("my_pipeline-3f9a1b2c"):
    print(event["event"], event["node_name"], event["elapsed_ms"])

# Restore Store from any checkpoint
store = db.load_checkpoint("my_pipeline-3f9a1b2c", step=2)
"""

TABLES = {
    "pf_runs": {
        "run_id",
        "flow_name",
        "status",
        "started_at",
        "completed_at",
        "total_steps",
        "current_node",
        "error_msg",
    },
    "pf_checkpoints": {"id", "run_id", "step", "node_name", "store_json", "created_at"},
    "pf_events": {
        "id",
        "run_id",
        "step",
        "node_name",
        "event",
        "action",
        "elapsed_ms",
        "error_msg",
        "ts",
    },
}


def recorded_run() -> None:
    """Leave a run of four steps, of which the last fails, in ``pocoflow.db``."""
    nodes: list[Node] = [Action("A"), Action("B"), Action("C")]

    class Broken(Node):
        def exec(self, prep_result: object) -> None:
            raise ValueError("broken")

    nodes.append(Broken())
    for source, target in zip(nodes, nodes[1:], strict=False):  # noqa: RUF007
        source.then("ok", target)
    flow = Flow(
        start=nodes[0],
        flow_name="my_pipeline",
        db_path="pocoflow.db",
        run_id="my_pipeline-3f9a1b2c",
    )
    with pytest.raises(ValueError, match="broken"):
        flow.run({"query": "..."})


def test_sqlite_backend(capsys: pytest.CaptureFixture[str]) -> None:
    """Runs and events can be listed, and a store restored from any checkpoint."""
    recorded_run()
    names = run_block(SQLITE)
    names["db"].close()
    assert names["store"] == {"query": "...", "trail": ["A", "B", "C"]}
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "my_pipeline-3f9a1b2c failed 3"
    events = [line.split() for line in lines[1:]]
    assert [tuple(event[:2]) for event in events] == [
        ("flow_start", "None"),
        ("node_start", "A"),
        ("node_end", "A"),
        ("node_start", "B"),
        ("node_end", "B"),
        ("node_start", "C"),
        ("node_end", "C"),
        ("node_start", "Broken"),
        ("node_error", "Broken"),
        ("flow_error", "None"),
    ]
    assert all(float(event[2]) >= 0 for event in events if event[0] in ("node_end", "node_error"))


def test_sqlite_tables_and_columns() -> None:
    """Anybody with a SQLite client finds the documented tables and columns, in WAL mode."""
    recorded_run()
    with closing(sqlite3.connect("pocoflow.db")) as raw:
        for table, columns in TABLES.items():
            found = {row[1] for row in raw.execute(f"PRAGMA table_info({table})")}
            assert columns <= found, table
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        (stored,) = raw.execute(
            "SELECT store_json FROM pf_checkpoints WHERE run_id = ? AND step = 0",
            ("my_pipeline-3f9a1b2c",),
        ).fetchone()
        assert ast.literal_eval(stored) == {"query": "...", "trail": ["A"]}
        (started, ended) = raw.execute("SELECT started_at, completed_at FROM pf_runs").fetchone()
    for moment in (started, ended):
        assert datetime.fromisoformat(moment).utcoffset() == datetime.now(UTC).utcoffset()


# -- Long-Running Workflows ---------------------------------------------------------------------

LONG_RUNNING = """
flow = Flow(start=my_node, db_path="pocoflow.db", flow_name="research")

# Returns immediately — flow runs in a daemon thread
handle = flow.run_background(store)

print(handle.run_id)          # e.g. "research-3f9a1b2c"
print(handle.status)          # "running"   (reads live from SQLite)

# Block until done (optional timeout)
result = handle.wait(timeout=300)
print(handle.status)          # "completed"

# Cooperative cancel — stops between nodes
handle.cancel()
"""


def test_long_running_workflows() -> None:
    """The handle has an id, a live status and the result; the run goes on meanwhile."""
    released = threading.Event()
    printed: list[str] = []

    class MyNode(Node):
        def exec(self, prep_result: object) -> None:
            assert released.wait(WAIT)

        def post(self, store: Store[Any], prep_result: object, exec_result: object) -> str:
            store["daemon"] = threading.current_thread().daemon
            return "done"

    def show(text: str) -> None:
        printed.append(text)
        if text == "running":
            released.set()

    store: Store[Any] = Store({"x": 1})
    names = run_block(LONG_RUNNING, my_node=MyNode(), store=store, Flow=Flow, print=show)
    assert re.fullmatch(r"research-[0-9a-f]{8}", printed[0])
    assert printed[1:] == ["running", "completed"]
    assert names["result"] == store == {"x": 1, "daemon": True}
    assert names["handle"].status == "completed"


# -- Resume after crash -------------------------------------------------------------------------

RESUME = """
from pocoflow import WorkflowDB, Flow

db = WorkflowDB("pocoflow.db")

# Find the failed run
runs = [r for r in db.list_runs() if r["status"] == "failed"]
failed = runs[0]

# Restore store from the last successful checkpoint
checkpoints = db.get_checkpoints(failed["run_id"])
last = checkpoints[-1]
store = db.load_checkpoint(failed["run_id"], step=last["step"])

# Resume from the node after the last checkpoint
flow = Flow(start=my_flow_start, db_path="pocoflow.db")
flow.run(store, resume_from=node_after_crash)
"""


def test_resume_after_crash() -> None:
    """The store of the last checkpoint goes on at the node that had failed."""
    recorded_run()
    start, after = Action("A"), Action("D")
    start.then("ok", after)
    names = run_block(RESUME, my_flow_start=start, node_after_crash=after)
    assert names["failed"]["run_id"] == "my_pipeline-3f9a1b2c"
    assert names["last"]["step"] == 2
    assert names["last"]["node_name"] == "C"
    assert names["store"]["trail"] == ["A", "B", "C", "D"]
    with names["db"] as db:
        assert [run["status"] for run in db.list_runs()] == ["completed", "failed"]


# -- Logging ------------------------------------------------------------------------------------

LOGGING = """
from pocoflow.logging import setup_logging, get_logger

# Set up once at app start (e.g. in CLI entry point or Streamlit cache_resource)
log_path = setup_logging("run", log_level="debug", adapter="openrouter")
# → logs/run-openrouter-20260217-143022.log

# In any module
_log = get_logger("nodes.summarise")   # → pocoflow.nodes.summarise
_log.info("summarising  len=%d", len(text))
"""


@pytest.fixture
def _logging_undone() -> Iterator[None]:
    """Close the log file that a test has set up, and put the level back."""
    level = logging.getLogger("pocoflow").level
    yield
    disable_logging()
    logging.getLogger("pocoflow").setLevel(level)


@pytest.mark.usefixtures("_logging_undone")
def test_logging(tmp_path: Path) -> None:
    """The log goes to a file whose name says run, adapter and time; loggers are namespaced."""
    names = run_block(LOGGING, text="twelve chars")
    path = names["log_path"]
    assert path.parent == tmp_path / "logs"
    assert re.fullmatch(r"run-openrouter-\d{8}-\d{6}\.log", path.name)
    assert names["_log"].name == "pocoflow.nodes.summarise"
    Flow(start=Action("A"), flow_name="logged", db_path="pocoflow.db").run()
    text = path.read_text(encoding="utf-8")
    assert "summarising  len=12" in text
    assert "'logged'" in text
    assert "pocoflow.flow" in text


def test_logger_hierarchy() -> None:
    """The documented loggers are children of ``pocoflow``, silent until logging is set up."""
    for name in ("store", "node", "flow", "db", "runner"):
        logger = get_logger(name)
        assert logger.name == f"pocoflow.{name}"
        assert logger.parent is logging.getLogger("pocoflow")
    assert get_logger().name == "pocoflow"


_FAILING = """
from pocoflow import Flow, Node

class Broken(Node):
    max_retries = 2

    def exec(self, prep_result):
        raise ValueError

try:
    Flow(start=Broken()).run()
except ValueError:
    pass
"""


def test_logging_is_silent_until_it_is_set_up(tmp_path: Path) -> None:
    """A retry and a failure print nothing and write no file by themselves."""
    ran = subprocess.run(
        [sys.executable, "-c", _FAILING],
        capture_output=True,
        text=True,
        check=True,
        timeout=WAIT,
        env={**os.environ, "PYTHONPATH": str(Path(pocoflow.__file__).parent.parent)},
    )
    assert (ran.stdout, ran.stderr) == ("", "")
    assert list(tmp_path.iterdir()) == []


# -- Migrating from PocketFlow ------------------------------------------------------------------

BEFORE = """
from pocketflow import Node, Flow

node_a >> node_b                 # creates "default" edge — causes UserWarning
node_a - "action" >> node_b      # named edge (correct but inconsistent)
shared = {}                      # raw dict — no type safety
"""

AFTER = """
from pocoflow import Node, Flow, Store

node_a.then("action", node_b)    # single unambiguous API, always
shared = Store(data=shared_dict) # typed, observable, checkpointable
flow.run(shared)                 # plain dict also accepted for backward compat
"""


def test_migrating_from_pocketflow() -> None:
    """The same edge, before and after; the store is built from the dict that there was."""
    old_a, old_b = pocketflow.Node(), pocketflow.Node()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        run_block(BEFORE, node_a=old_a, node_b=old_b)
    assert old_a.successors["action"] is old_b
    new_a, new_b = Action("A", "action"), Action("B")
    names = run_block(
        AFTER, node_a=new_a, node_b=new_b, shared_dict={"x": 1}, flow=Flow(start=new_a)
    )
    assert names["shared"] == {"x": 1, "trail": ["A", "B"]}


def test_a_plain_dict_is_accepted_too() -> None:
    """``flow.run(dict)`` writes to the caller's dict."""
    shared: dict[str, Any] = {}
    Flow(start=Action("A")).run(shared)
    assert shared == {"trail": ["A"]}


# -- Project Layout -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("pocoflow", ["Store", "Node", "AsyncNode", "Flow", "WorkflowDB", "RunHandle"]),
        ("pocoflow.store", ["Store"]),
        ("pocoflow.node", ["Node", "AsyncNode"]),
        ("pocoflow.flow", ["Flow"]),
        ("pocoflow.db", ["WorkflowDB"]),
        ("pocoflow.logging", ["setup_logging", "get_logger"]),
        ("pocoflow.runner", ["RunHandle"]),
    ],
)
def test_project_layout(module: str, names: list[str]) -> None:
    """Each documented module has what it is documented to have."""
    imported = importlib.import_module(module)
    assert [name for name in names if not hasattr(imported, name)] == []


# -- Comparison with PocketFlow -----------------------------------------------------------------


def test_retry_is_on_any_node() -> None:
    """``max_retries`` and ``retry_delay`` are settings of every node, asynchronous or not."""
    assert (Node.max_retries, Node.retry_delay) == (AsyncNode.max_retries, AsyncNode.retry_delay)
    attempts: list[int] = []

    class Flaky(AsyncNode):
        max_retries = 3
        retry_delay = 0.001

        async def exec_async(self, prep_result: object) -> str:
            attempts.append(len(attempts) + 1)
            if len(attempts) < 3:
                raise ConnectionError
            return "ok"

        def post(self, store: Store[Any], prep_result: object, exec_result: str) -> str:
            store["result"] = exec_result
            return "done"

    assert Flow(start=Flaky()).run()["result"] == "ok"
    assert attempts == [1, 2, 3]
