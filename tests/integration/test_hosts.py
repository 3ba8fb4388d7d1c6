"""One flow, unchanged, in a plain script, in a Jupyter kernel and in FastAPI under uvicorn.

The fourth host, a Streamlit page, is in tests/browser/test_hosts.py. The flow and the programs
around it are in hosts/; every host is a real process, and every run is looked up in the database.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import pytest

import pocoflow
from pocoflow import WorkflowDB
from pocoflow.errors import DatabaseFileError
from tests.integration.hosts.reading import TEXT, Reading, expected
from tests.waiting import wait_for

HOSTS = Path(__file__).with_name("hosts")
ROOT = Path(__file__).parents[2]
DEADLINE = 120.0
STEPS = ["split", "look_closer/CountWords", "look_closer/find_longest", "put_together"]


def environment(database: Path) -> dict[str, str]:
    """What a host is started with: the database of the flow, and this pocoflow."""
    return {
        **os.environ,
        "READING_DB": str(database),
        "PYTHONPATH": os.pathsep.join([str(Path(pocoflow.__file__).parents[1]), str(ROOT)]),
        "JUPYTER_RUNTIME_DIR": str(database.parent / "jupyter"),
        "IPYTHONDIR": str(database.parent / "ipython"),
    }


def cards(database: Path) -> list[str]:
    """The results of all runs of the flow, each of which has completed with all its steps."""
    if not database.exists():
        return []
    found = []
    with WorkflowDB(database, read_only=True) as db:
        for run in db.list_runs(10_000):
            if run["flow_name"] != "read":
                continue
            assert run["status"] == "completed"
            saved = db.get_checkpoints(run["run_id"])
            assert [one["node_name"] for one in saved] == [*STEPS, "write_card"]
            store = db.load_checkpoint(run["run_id"], saved[-1]["step"], schema=Reading)
            assert store.state.card == expected(store.state.text)
            found.append(store.state.card)
    return found


def statuses(database: Path, flow_name: str) -> list[str]:
    """How the runs of another flow stand; none do while the database is being made."""
    try:
        with WorkflowDB(database, read_only=True) as db:
            return [run["status"] for run in db.list_runs() if run["flow_name"] == flow_name]
    except DatabaseFileError:
        return []


# -- a script ---------------------------------------------------------------------------------


def test_a_script(tmp_path: Path) -> None:
    """`python script.py` prints the card, and the run is in the database."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(HOSTS / "script.py")],
        env=environment(tmp_path / "runs.db"),
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == expected(TEXT) + "\n"
    assert cards(tmp_path / "runs.db") == [expected(TEXT)]


# -- a notebook -------------------------------------------------------------------------------


def notebook(database: Path, *cells: str, interrupt_at: str = "") -> list[str]:
    """Run cells in a kernel of their own; what each one shows."""
    given = [{"code": cell} for cell in cells]
    if interrupt_at:
        for cell in given:
            cell["interrupt_at"] = interrupt_at
    done = subprocess.run(
        [sys.executable, "-W", "error", str(HOSTS / "notebook.py")],
        env=environment(database),
        cwd=database.parent,
        input=json.dumps(given),
        capture_output=True,
        encoding="utf-8",
        timeout=3 * DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    shown: list[str] = json.loads(done.stdout)
    return shown


IMPORTS = """\
import warnings; warnings.simplefilter("error")
warnings.filterwarnings("ignore", category=PendingDeprecationWarning, module="ipykernel")
import asyncio
from tests.integration.hosts.reading import TEXT, flow
asyncio.get_running_loop().is_running()
"""
SHOWN = f"The\nNobody\nThe\n{expected(TEXT)}"


def test_a_notebook(tmp_path: Path) -> None:
    """In cells, where the kernel's event loop runs, each way to run a flow gives what it gives."""
    shown = notebook(
        tmp_path / "runs.db",
        IMPORTS,
        "print(flow.run({'text': TEXT})['card'])",
        "print((await flow.run_async({'text': TEXT}))['card'])",
        "for event in flow.stream({'text': TEXT}):\n"
        "    if event.kind == 'emit': print(event.value)",
        "async for event in flow.stream_async({'text': TEXT}):\n"
        "    if event.kind == 'emit': print(event.value)",
        "both = await asyncio.gather(*[flow.run_async({'text': t}) for t in (TEXT, 'two words')])\n"
        "print(*[store['card'] for store in both], sep='\\n')",
        "handle = flow.run_background({'text': TEXT})\nprint(handle.wait()['card'])",
    )
    card = expected(TEXT)
    assert sorted(shown[3].split("\n")) == sorted(SHOWN.split("\n"))  # items show in any order
    assert sorted(shown[4].split("\n")) == sorted(SHOWN.split("\n"))
    assert shown[:3] == ["True", card, card]
    assert shown[5:] == [f"{card}\n{expected('two words')}", card]
    assert sorted(cards(tmp_path / "runs.db")) == sorted([*[card] * 6, expected("two words")])


CELL = """
from typing import Literal
from pydantic import BaseModel
from pocoflow import Flow, Node, Store, WorkflowDB, fields, node

class Note(BaseModel):
    text: str

class Notes(BaseModel):
    text: str
    notes: list[Note] = []
    count: int

class Make(Node[str, Note, Literal["made"]]):
    def prep(self, store: Store[Notes]) -> str:
        return store.state.text
    def exec(self, text: str) -> Note:
        return Note(text=text.upper())
    def post(self, store: Store[Notes], text: str, note: Note) -> Literal["made"]:
        store.state.notes = [note]
        return "made"

@node(writes=fields(Notes).count)
def count(notes: list[Note]) -> int:
    return RETURNED

make = Make()
flow = Flow(make, schema=Notes, db_path="runs.db", flow_name="notes")
flow.then(make.when("made"), count)
"""


def test_a_cell_is_corrected_and_the_run_goes_on(tmp_path: Path) -> None:
    """A cell with nodes and models is run again, corrected, and `resume` goes on with them."""
    shown = notebook(
        tmp_path / "runs.db",
        CELL.replace("RETURNED", "len(notes) / 0"),
        "flow.run({'text': 'ebb'})",
        CELL.replace("RETURNED", "len(notes)"),
        "with WorkflowDB('runs.db') as db: run = db.list_runs()[0]\nprint(run['status'])",
        "store = flow.resume(run['run_id'])\n"
        "print(store['count'], store['notes'], type(store['notes'][0]) is Note)",
    )
    # What a resume says of changed code is printed where no logging is set up.
    told, _, shown[-1] = shown[-1].rpartition("\n")
    assert "it goes on under changed code: code of node 'count' changed" in told
    assert shown == [
        "<Flow 'notes' from 'Make'>",
        "ZeroDivisionError: division by zero",
        "<Flow 'notes' from 'Make'>",
        "failed",
        "1 [Note(text='EBB')] True",
    ]
    assert statuses(tmp_path / "runs.db", "notes") == ["completed"]


WAIT = """
import asyncio
from pocoflow import Flow, Node, WorkflowDB

class Wait(Node):
    async def exec(self, prepared):
        print("waiting", flush=True)
        while True:
            await asyncio.sleep(0.01)

flow = Flow(Wait(), flow_name="wait", db_path="runs.db")
"""


def test_a_cell_is_interrupted(tmp_path: Path) -> None:
    """The stop button ends the run of a cell in each way of running; the kernel goes on."""
    shown = notebook(
        tmp_path / "runs.db",
        WAIT,
        "flow.run()",
        "await flow.run_async()",
        "for event in flow.stream(): pass",
        "async for event in flow.stream_async(): pass",
        "6 * 7",
        interrupt_at="waiting",
    )
    assert shown == [
        "",
        "waiting\nKeyboardInterrupt: ",
        "waiting\nCancelledError: ",
        "waiting\nKeyboardInterrupt: ",
        "waiting\nCancelledError: ",
        "42",
    ]
    ended = statuses(tmp_path / "runs.db", "wait")[::-1]
    assert ended == ["failed", "cancelled", "cancelled", "cancelled"]


# -- a web app --------------------------------------------------------------------------------


class Server:
    """uvicorn in a process of its own, on a free port of this machine."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.database = folder / "runs.db"
        self.log = folder / "uvicorn.log"
        with socket.create_server(("127.0.0.1", 0)) as listener, self.log.open("wb") as log:
            self.port = listener.getsockname()[1]
            command = [sys.executable, "-W", "error", "-m", "uvicorn"]
            command += ["tests.integration.hosts.web:app", "--fd", str(listener.fileno())]
            # The socket listens already, so that a request may come before the server is up.
            self._process = subprocess.Popen(
                [*command, "--log-level", "warning", *options],
                env=environment(self.database),
                cwd=folder,
                pass_fds=[listener.fileno()],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def ask(self, method: str, path: str, body: object = None) -> http.client.HTTPResponse:
        """Send a request; the response as it begins. Closing it leaves the connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        headers = {"Content-Type": "application/json", "Connection": "close"}
        connection.request(method, path, json.dumps(body), headers)
        return connection.getresponse()

    def post(self, path: str, body: object = None) -> Any:
        """The JSON that a request is answered with."""
        with self.ask("POST", path, body) as response:
            assert response.status == 200, self.log.read_text()
            return json.load(response)

    def stop(self) -> None:
        """End it as a process manager does."""
        self._process.terminate()
        self._process.wait(DEADLINE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait(DEADLINE)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The web app; nothing may be in its log in the end."""
    with Server(tmp_path_factory.mktemp("web")) as started:
        yield started
        started.stop()
        assert started.log.read_text() == ""


ENDPOINTS = ["/run", "/run_async", "/run_in_loop"]


@pytest.mark.parametrize("path", ENDPOINTS)
def test_an_endpoint(server: Server, path: str) -> None:
    """`run` in a synchronous endpoint, `run_async` and even `run` in an asynchronous one answer."""
    before = len(cards(server.database))
    assert server.post(path, {"text": TEXT}) == {"card": expected(TEXT)}
    assert len(cards(server.database)) == before + 1


def text_of(client: int) -> str:
    """A text that no other client sends."""
    return "\n\n".join(f"{'x' * (client + n)} of client {client}" for n in range(1, 4))


@pytest.mark.parametrize("path", ENDPOINTS)
def test_twenty_clients_at_once(server: Server, path: str) -> None:
    """Twenty requests that are in their handlers at the same time get each its own answer."""
    together = path != "/run_in_loop"  # which holds the loop, so that there is only one at a time
    texts = [text_of(client) for client in range(20)]
    with ThreadPoolExecutor(20) as clients:
        answers = list(
            clients.map(
                lambda text: server.post(path, {"text": text, "together": together})["card"], texts
            )
        )
    assert answers == [expected(text) for text in texts]
    assert set(answers) <= set(cards(server.database))


def test_a_streamed_response(server: Server) -> None:
    """What the nodes show arrives line by line, and nothing else."""
    with server.ask("POST", "/stream", {"text": TEXT}) as response:
        lines = response.read().decode().splitlines()
    assert sorted(lines) == sorted(SHOWN.splitlines())
    assert lines[-3:] == expected(TEXT).splitlines()


@pytest.mark.parametrize("kind", ["wait", "work"])
def test_a_client_that_leaves_a_stream_cancels_the_run(server: Server, kind: str) -> None:
    """The run of a streamed response ends with the connection, where it awaits and in a thread."""
    name = f"left-{kind}"
    with server.ask("GET", f"/stream/{kind}/{name}") as response:
        assert response.readline() == f"{kind}ing\n".encode()
        assert statuses(server.database, name) == ["running"]
    wait_for(lambda: statuses(server.database, name) == ["cancelled"], "the run was not cancelled")


def test_a_client_that_leaves_an_endpoint_does_not_cancel_the_run(server: Server) -> None:
    """An endpoint that awaits a run goes on without its client, and the result is stored."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE)
    connection.request("GET", "/wait/left")
    wait_for(lambda: statuses(server.database, "left") == ["running"], "the run did not begin")
    connection.close()
    server.post("/open")
    wait_for(lambda: statuses(server.database, "left") == ["completed"], "the run did not complete")
    with WorkflowDB(server.database, read_only=True) as db:
        [run] = [run for run in db.list_runs() if run["flow_name"] == "left"]
        assert db.load_checkpoint(run["run_id"], 0)["opened"] is True


def test_a_server_that_stops_cancels_what_runs(tmp_path: Path) -> None:
    """A run that outlasts the grace of a stopping server is on record as cancelled, with why."""
    with Server(tmp_path, "--timeout-graceful-shutdown", "1") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE)
        connection.request("GET", "/wait/stopped")
        wait_for(lambda: statuses(server.database, "stopped") == ["running"], "no run has begun")
        server.stop()
        connection.close()
    with WorkflowDB(server.database, read_only=True) as db:
        [run] = db.list_runs()
    assert run["status"] == "cancelled"
    assert "graceful shutdown" in (run["error_msg"] or "")
