"""A flow that is served to users: every promise of ``pocoflow.ext.web``, over real sockets."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from pocoflow import Flow, Node, WorkflowDB, context
from pocoflow.errors import DefinitionError, NoDatabaseError
from pocoflow.ext.web import RunsApp, WebLimits
from tests.serving import Client, Served, Service
from tests.waiting import wait_for

if TYPE_CHECKING:
    from tests.servers import Server

APP = "tests.integration.hosts.letters:app"
SECRET = "the-password-is-4711"
DEADLINE = 120.0
LETTER = {"to": "Bob", "day": "2026-02-03", "cents": 5}


def serve(folder: Path, *options: str) -> Service:
    """The app, with a worker in its process."""
    return Service(APP, folder, {"LETTERS_DB": str(folder / "runs.db")}, *options)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The app that all tests share, each with users of its own."""
    with serve(tmp_path_factory.mktemp("web")) as started:
        yield started


def until(client: Client, path: str, *statuses: str) -> Any:
    """Wait until a run has one of some statuses; the run."""
    seen: list[Any] = []

    def has() -> bool:
        seen.append(client.get(path).json)
        return seen[-1]["status"] in statuses

    wait_for(has, f"{path} is not {statuses}")
    return seen[-1]


def begin(client: Client, run_id: str, at: str = "/letters", **inputs: Any) -> Served:
    """Start a run."""
    return client.post(f"{at}/runs", {"id": run_id, "inputs": inputs or LETTER})


def left(service: Service, of: str) -> int:
    """How many tasks there are in the app, or how many of them send streams."""
    return int(service.client().get("/left").json[of])


# -- what it is for -------------------------------------------------------------------------------


def test_a_run_is_started_followed_answered_and_completed(service: Service) -> None:
    """A user starts a run, gets its tokens as they come, decides, and has the result."""
    ann = service.client("ann")
    started = begin(ann, "first")
    assert (started.status, started.json["status"]) == (202, "queued")
    kinds, tokens, paths = [], [], "/letters/runs/first"
    with closing(ann.events(f"{paths}/events")) as events:
        for event in events:
            kinds.append(event["kind"])
            if event["kind"] == "emit":
                tokens.append(event["value"])
            if event["kind"] == "flow_pause":
                asked = until(ann, paths, "paused")["questions"][0]
                assert asked["context"] == {"text": "Dear Bob, of 2026-02-03"}
                assert asked["answer_schema"]["required"] == ["verdict"]
                given = {"answer": {"verdict": "edit", "text": "Hi Bob"}}
                answered = ann.post(f"{paths}/questions/{asked['question']}", given)
                assert answered.status == 200
    assert tokens == ["Dear ", "Bob", ", of 2026-02-03"]
    assert kinds[0] == "flow_start"
    assert kinds[-1] == "flow_end"
    run = ann.get(paths).json
    assert run["status"] == "completed"
    assert run["result"]["sent"] == "Hi Bob"
    assert run["result"]["day"] == "2026-02-03"


def test_a_validator_sees_an_input_once(service: Service) -> None:
    """Five euros are 500 cents, and not 50,000, however often values are checked on the way."""
    ann = service.client("validated")
    bodies = [{"id": "a"}, {"id": "b", "thread": "t"}, {"id": "c", "thread": "t"}]
    for body in bodies:
        assert ann.post("/letters/runs", {**body, "inputs": LETTER}).status == 202
        path = f"/letters/runs/{body['id']}"
        run = until(ann, path, "paused")
        ann.post(f"{path}/questions/{run['questions'][0]['question']}", ok())
        assert until(ann, path, "completed")["result"]["cents"] == 500


def ok() -> dict[str, Any]:
    """An answer that fits."""
    return {"answer": {"verdict": "send"}}


def test_a_run_can_be_cancelled(service: Service) -> None:
    """A run that waits for a person is cancelled at once; another time changes nothing."""
    ann = service.client("cancels")
    begin(ann, "a")
    until(ann, "/letters/runs/a", "paused")
    for _ in range(2):
        assert ann.post("/letters/runs/a/cancel", {}).json["status"] == "cancelled"
    assert [e["kind"] for e in ann.events("/letters/runs/a/events")][-1] == "flow_cancelled"


def test_a_conversation_goes_on(service: Service) -> None:
    """Runs of a thread follow one another, one at a time, and a thread belongs to its owner."""
    ann, bob = service.client("talks"), service.client("talks too")
    last: Any = None
    for user, word in ((ann, "hello"), (bob, "moin"), (ann, "how are you?")):
        body = {"thread": "main", "inputs": {"messages": [word]}}
        run = user.post("/chat/runs", body).json
        last = until(user, f"/chat/runs/{run['id']}", "completed")
        assert last["thread"] == "main"
    said = last["result"]["messages"]
    assert said == ["hello", "re: hello", "how are you?", "re: how are you?"]
    threads = ann.get("/chat/runs?thread=main").json["runs"]
    assert len(threads) == 2


def test_a_busy_thread_names_the_run_that_it_waits_for(service: Service) -> None:
    """A second run of a thread is refused while the first is open, whose id is told."""
    ann = service.client("busy")
    body = {"id": "first", "thread": "t", "inputs": LETTER}
    assert ann.post("/letters/runs", body).status == 202
    until(ann, "/letters/runs/first", "paused")
    refused = ann.post("/letters/runs", {**body, "id": "second"})
    assert refused.status == 409
    assert refused.json == {"detail": "run 'first' of the thread is paused: it has to end first"}


def test_a_start_that_is_sent_again_is_the_same_run(service: Service) -> None:
    """The same id with the same inputs is one run, however many ask at once; others are refused."""
    ann = service.client("impatient")
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda _: begin(ann, "once"), range(20)))
    assert {one.status for one in found} <= {200, 202}
    assert len(ann.get("/letters/runs").json["runs"]) == 1
    assert begin(ann, "once").status == 200
    other = begin(ann, "once", to="Zoe")
    assert other.status == 409
    assert other.json["detail"].startswith("there is a run 'once' already")


def test_runs_are_listed_by_page_label_and_status(service: Service) -> None:
    """An owner finds the own runs, the newest first, by label, and page by page."""
    ann = service.client("lists")
    for number in range(5):
        labels = {"parity": "even" if number % 2 == 0 else "odd"}
        body = {"id": f"run-{number}", "inputs": {"text": "x"}, "labels": labels}
        assert ann.post("/failing/runs", body).status == 202
        until(ann, f"/failing/runs/run-{number}", "failed")
    first = ann.get("/failing/runs?limit=3").json
    assert [run["id"] for run in first["runs"]] == ["run-4", "run-3", "run-2"]
    second = ann.get(f"/failing/runs?limit=3&before={first['next']}").json
    assert [run["id"] for run in second["runs"]] == ["run-1", "run-0"]
    assert second["next"] is None
    assert ann.get("/failing/runs?label=parity:o%00").status == 422
    odd = ann.get("/failing/runs?label=parity:odd&status=failed").json["runs"]
    assert [(run["id"], run["labels"]) for run in odd] == [
        ("run-3", {"parity": "odd"}),
        ("run-1", {"parity": "odd"}),
    ]
    assert ann.get("/failing/runs?limit=0").status == 422
    assert ann.get("/failing/runs?before=nothing").status == 404


# -- closed by default ----------------------------------------------------------------------------

ROUTES = [
    ("POST", "/runs"),
    ("GET", "/runs"),
    ("GET", "/runs/a"),
    ("GET", "/runs/a/events"),
    ("POST", "/runs/a/questions/1"),
    ("POST", "/runs/a/cancel"),
    ("GET", "/openapi.json"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_stranger_is_told_nothing(service: Service, method: str, path: str) -> None:
    """No route answers whom the hook does not know, whether the hook is asynchronous or not."""
    stranger = service.client()
    for at in ("/letters", "/failing"):
        served = stranger.send(method, at + path, b"{}", Content_Type="application/json")
        assert (served.status, served.json) == (401, {"detail": "say who you are"})


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_the_hook_may_refuse_by_itself(service: Service, method: str, path: str) -> None:
    """An HTTPException of the hook is the answer."""
    served = service.client("banned").send(method, "/letters" + path)
    assert (served.status, served.json) == (403, {"detail": "go away"})


def test_a_hook_that_is_broken_lets_nobody_in(service: Service) -> None:
    """What is no name is an error of the server, of which its client sees nothing."""
    served = service.client("ann").get("/broken/runs")
    assert (served.status, served.text) == (500, "Internal Server Error")


def test_an_app_without_a_hook_is_refused(tmp_path: Path) -> None:
    """There is no app without somebody who says who sends a request, or without a database."""
    flow: Flow[Any] = Flow(Node(), flow_name="nothing", db_path=tmp_path / "runs.db")
    with pytest.raises(TypeError, match="who"):
        RunsApp(flow)  # type: ignore[call-arg]
    with pytest.raises(DefinitionError, match="a function that is given a request"):
        RunsApp(flow, who=None)  # type: ignore[arg-type]
    nobody: Any = lambda: "ann"  # noqa: E731
    with pytest.raises(DefinitionError, match="cannot be called with a request"):
        RunsApp(flow, who=nobody)
    with pytest.raises(DefinitionError, match=r"'letters\.py:flow'.*a Flow is needed"):
        RunsApp("letters.py:flow", who=str)  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match=r"limits=\{'body': 5\}"):
        RunsApp(flow, who=str, limits={"body": 5})  # type: ignore[arg-type]
    with pytest.raises(NoDatabaseError, match="keeps no runs"):
        RunsApp(Flow(Node(), flow_name="nothing"), who=lambda request: "ann")
    wrong: list[dict[str, Any]] = [{"body": 0}, {"runs": True}, {"heartbeat": 0}]
    for one in [*wrong, {"longest": float("inf")}, {"longest": "60"}]:
        with pytest.raises(DefinitionError, match="WebLimits"):
            WebLimits(**one)


def small(folder: Path, db_path: str) -> Service:
    """An app of a flow of one node; everybody is ann."""
    (folder / "small.py").write_text(
        "from pocoflow import Flow, Node\nfrom pocoflow.ext.web import RunsApp\n"
        f"flow = Flow(Node(), flow_name='small', db_path={db_path!r})\n"
        "app = RunsApp(flow, who=lambda request: 'ann')\n"
    )
    return Service("small:app", folder)


def test_a_database_that_cannot_be_reached_is_said_to_be_so(tmp_path: Path) -> None:
    """Each route answers 503 and says when to try again; the log says where it was looked for."""
    pytest.importorskip("psycopg")
    with small(tmp_path, f"postgresql://ann:{SECRET}@/work?host=/nowhere") as service:
        web = service.client()
        answers = [web.get(path) for path in ("/runs", "/runs/r", "/runs/r/events")]
        answers += [web.post(path, {}) for path in ("/runs", "/runs/r/cancel")]
        answers.append(web.post("/runs/r/questions/1", {"answer": 1}))
        for served in answers:
            assert served.status == 503
            assert served.json == {"detail": "the database cannot be reached"}
            assert served.headers["retry-after"] == "2"
        # A browser asks again after a stream that ends, and after no other answer.
        served = web.send("GET", "/runs/r/events", accept="text/event-stream")
        assert (served.status, served.text) == (200, "retry: 1000\n\n")
        # Whoever starts a run and takes a stream as well is not told that it was started.
        both, kind = "application/json, text/event-stream", "application/json"
        assert web.send("POST", "/runs", b"{}", accept=both, content_type=kind).status == 503
        log = service.log.read_text()
    assert "/nowhere" in log
    assert SECRET not in log
    assert "Traceback" not in log


class Older(BaseModel):
    """A schema with a field that was removed since, and without a bound."""

    text: str = ""
    secret: str = ""


def test_a_run_of_an_older_schema_is_shown_as_it_was_saved(tmp_path: Path) -> None:
    """Its result is there, without what is no field any more, and it can be asked to stop."""
    path = tmp_path / "runs.db"
    flow = Flow(Node(), flow_name="small", db_path=path, schema=Older)
    flow.run(Older(text="long", secret="hidden"), run_id="ann/old", labels={"owner": "ann"})
    flow.database.close()
    (tmp_path / "newer.py").write_text(
        "from pydantic import BaseModel, Field\n"
        "from pocoflow import Flow, Node\nfrom pocoflow.ext.web import RunsApp\n"
        "class Newer(BaseModel):\n    text: str = Field('', max_length=2)\n"
        f"flow = Flow(Node(), flow_name='small', db_path={str(path)!r}, schema=Newer)\n"
        "app = RunsApp(flow, who=lambda request: 'ann')\n"
    )
    with Service("newer:app", tmp_path) as service:
        web = service.client()
        for served in (web.get("/runs/old"), web.post("/runs/old/cancel", {})):
            assert (served.status, served.json.get("status")) == (200, "completed"), served.text
            assert served.json["result"] == {"text": "long"}


def test_interrupted_runs_are_listed_as_what_they_read_as(tmp_path: Path) -> None:
    """By ``status=interrupted``, over pages; ``failed`` has those that failed alone."""
    path = tmp_path / "runs.db"
    with small(tmp_path, str(path)) as service, WorkflowDB(path) as db:
        web = service.client()
        for number in range(6):
            web.post("/runs", {"id": f"r{number}"})
            why = "Bug" if number % 3 else "Interrupted"
            db.update_run(f"ann/r{number}", status="failed", error_msg="", error_type=why)

        def listed(query: str) -> list[str]:
            found, page = [], web.get(f"/runs?{query}").json
            while True:
                found += [f"{run['id']} {run['status']}" for run in page["runs"]]
                if page["next"] is None:
                    return found
                page = web.get(f"/runs?{query}&before={page['next']}").json

        for limit in (1, 2, 20):
            cut, failed = [f"limit={limit}&status={name}" for name in ("interrupted", "failed")]
            assert listed(cut) == ["r3 interrupted", "r0 interrupted"]
            assert listed(failed) == ["r5 failed", "r4 failed", "r2 failed", "r1 failed"]
        assert web.get("/runs?status=lost").status == 422


def test_what_is_needed_is_named_where_it_is_not_installed() -> None:
    """Without Starlette the import says what to install, and pocoflow itself needs none of it."""
    program = "import sys; sys.modules['starlette'] = None\n"
    program += "import pocoflow; assert 'pocoflow.ext' not in sys.modules\nimport pocoflow.ext.web"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stderr.endswith(
        "ModuleNotFoundError: pocoflow.ext.web needs Starlette: pip install 'pocoflow[web]'\n"
    )


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/runs/{}"),
        ("GET", "/runs/{}/events"),
        ("POST", "/runs/{}/questions/{question}"),
        ("POST", "/runs/{}/cancel"),
    ],
)
def test_the_run_of_another_is_not_there(service: Service, method: str, path: str) -> None:
    """Whether a run is of somebody else, or of nobody, makes no difference in what is told."""
    ann, bob = service.client("has a run"), service.client("has none")
    begin(ann, "mine")
    question = until(ann, "/letters/runs/mine", "paused")["questions"][0]["question"]
    body = json.dumps(ok()).encode()
    answers = []
    for run_id in ("mine", "nobodys"):
        at = "/letters" + path.format(run_id, question=question)
        served = bob.send(method, at, body, Content_Type="application/json")
        answers.append((served.status, served.text, sorted(served.headers)))
    assert answers[0] == answers[1]
    assert answers[0][:2] == (404, '{"detail": "there is no such run"}')
    assert ann.get("/letters/runs/mine").json["status"] == "paused"


def test_an_id_and_a_label_belong_to_their_owner(service: Service) -> None:
    """Somebody else uses the same id and label, and neither learns of the other."""
    ann, bob = service.client("a/b"), service.client("a")
    for user, name in ((ann, "Ann"), (bob, "Bob")):
        body = {"id": "letter", "inputs": {**LETTER, "to": name}, "labels": {"owner": "a"}}
        assert user.post("/letters/runs", body).status == 202
    for user, name in ((ann, "Ann"), (bob, "Bob")):
        run = until(user, "/letters/runs/letter", "paused")
        assert run["questions"][0]["context"]["text"].startswith(f"Dear {name}")
        assert run["labels"] == {"owner": "a"}
        runs = user.get("/letters/runs?label=owner:a").json["runs"]
        assert [one["id"] for one in runs] == ["letter"]
    assert bob.get("/letters/runs/b%2Fletter").status == 404
    assert bob.post("/letters/runs", {"id": "b/letter", "inputs": LETTER}).status == 422


def test_a_run_of_another_flow_is_not_there(service: Service) -> None:
    """A flow serves its own runs, also to an owner who has runs of others."""
    ann = service.client("two flows")
    begin(ann, "a")
    assert ann.get("/failing/runs/a").status == 404
    assert ann.get("/failing/runs").json["runs"] == []
    assert begin(ann, "a", "/failing", text="x").status == 409


# -- what is never sent ---------------------------------------------------------------------------


def test_a_failure_is_told_without_its_text(service: Service) -> None:
    """Who may see a failed run sees that it failed, where and when, and nothing of the error."""
    ann = service.client("fails")
    begin(ann, "a", "/failing", text="x")
    run = until(ann, "/failing/runs/a", "failed")
    events = list(ann.events("/failing/runs/a/events"))
    assert [one["kind"] for one in events][-2:] == ["node_error", "flow_error"]
    told = json.dumps([run, events, ann.get("/failing/runs").json])
    for word in (SECRET, "ConnectionError", "Traceback", "letters.py", "4711"):
        assert word not in told


def test_what_was_not_saved_or_is_excluded_is_not_sent(service: Service) -> None:
    """A part that could not be saved takes its field with it, and an excluded field stays here."""
    ann = service.client("hides")
    begin(ann, "a")
    question = until(ann, "/letters/runs/a", "paused")["questions"][0]["question"]
    ann.post(f"/letters/runs/a/questions/{question}", ok())
    run = until(ann, "/letters/runs/a", "completed")
    assert run["result"].keys() == {"to", "day", "cents", "text", "decision", "sent"}
    told = json.dumps([run, list(ann.events("/letters/runs/a/events"))])
    assert SECRET not in told
    assert "lock" not in told


def test_what_json_has_no_word_for_is_sent_all_the_same(service: Service) -> None:
    """A number that is none, or half a character, does not break what its client reads."""
    ann = service.client("odd")
    begin(ann, "a", "/waiting", text="x")
    run = until(ann, "/waiting/runs/a", "paused")
    assert run["questions"][0]["context"] == {"decibels": None}
    found = {}
    with closing(ann.events("/waiting/runs/a/events")) as events:
        for event in events:
            found[event["kind"]] = event
            if event["kind"] == "flow_pause":
                break
    assert found["emit"]["value"] == [None, "\ud83d", {"decibels": None}]
    assert found["node_ask"]["context"] == {"decibels": None}
    ann.post("/waiting/runs/a/cancel", {})


class Long(Node):
    """Shows and stores an integer of more digits than Python writes, and something else."""

    def exec(self, prepared: object) -> None:
        context().emit([10**5000])
        context().emit("after it")

    def post(self, store: Any, prepared: object, result: None) -> str:
        store["long"], store["short"] = {"n": 10**5000}, 1
        return "done"


def test_a_number_that_json_cannot_have_keeps_nothing_else_from_its_owner(tmp_path: Path) -> None:
    """It is sent as null, or left out of the result; the stream and the answer have the rest."""
    path = tmp_path / "runs.db"
    flow: Flow[Any] = Flow(Long(), flow_name="small", db_path=path, record_emitted=True)
    flow.run({}, run_id="ann/a", labels={"owner": "ann"})
    flow.database.close()
    with small(tmp_path, str(path)) as service:
        web = service.client()
        assert web.get("/runs/a").json["result"] == {"short": 1}
        events = list(web.events("/runs/a/events"))
    assert [one["value"] for one in events if one["kind"] == "emit"] == [None, "after it"]
    assert events[-1]["kind"] == "flow_end"


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; a=b"],
)
def test_a_change_is_taken_as_json_alone(service: Service, kind: str | None) -> None:
    """What a form of another site can send, with the cookies of its visitor, changes nothing."""
    ann = service.client("posts")
    headers = {} if kind is None else {"Content_Type": kind}
    body = json.dumps({"inputs": LETTER}).encode()
    for path in ("/runs", "/runs/a/cancel", "/runs/a/questions/1"):
        served = ann.send("POST", f"/letters{path}", body, **headers)
        assert (served.status, served.json["detail"]) == (415, "send this as application/json")
    assert ann.get("/letters/runs").json["runs"] == []


def test_a_body_is_counted_as_it_comes(service: Service) -> None:
    """A body that is too large is refused by what it says, and if it says nothing, by its bytes."""
    ann = service.client("floods")
    large = json.dumps({"inputs": {"text": "x" * 3000}}).encode()
    served = ann.send("POST", "/waiting/runs", large, Content_Type="application/json")
    assert (served.status, served.json) == (413, {"detail": "the body has more than 2000 bytes"})
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=DEADLINE)
    with closing(connection):
        connection.putrequest("POST", "/waiting/runs")
        for name, value in (("X-User", "floods"), ("Content-Type", "application/json")):
            connection.putheader(name, value)
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        for _ in range(3):  # and never an end
            connection.send(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
        assert connection.getresponse().status == 413
    assert ann.get("/waiting/runs").json["runs"] == []


def test_an_owner_has_so_many_open_runs(service: Service) -> None:
    """Of twenty starts at once as many are taken as may be open, and others once those end."""
    ann, bob = service.client("greedy"), service.client("modest")
    with ThreadPoolExecutor(20) as pool:
        starts = pool.map(lambda n: begin(ann, f"run-{n}", "/waiting", text="x"), range(20))
        found = list(starts)
    assert sorted(one.status for one in found) == [202] * 3 + [429] * 17
    refused = next(one for one in found if one.status == 429)
    assert refused.headers["retry-after"] == "10"
    assert refused.json["detail"].startswith("3 runs are open")
    assert begin(bob, "a", "/waiting", text="x").status == 202
    bob.post("/waiting/runs/a/cancel", {})
    for run in ann.get("/waiting/runs").json["runs"]:
        ann.post(f"/waiting/runs/{run['id']}/cancel", {})
        until(ann, f"/waiting/runs/{run['id']}", "cancelled")
    assert begin(ann, "one-more", "/waiting", text="x").status == 202
    ann.post("/waiting/runs/one-more/cancel", {})


def test_an_owner_has_so_many_open_streams(service: Service) -> None:
    """A stream more than may be open is refused, and there is room again once one is left."""
    ann = service.client("watches")
    begin(ann, "a", "/waiting", text="x")
    path = "/waiting/runs/a/events"
    streams = [ann.events(path) for _ in range(2)]
    for one in streams:
        assert next(one)["kind"] == "flow_start"
    served = ann.get(path)
    assert (served.status, served.headers["retry-after"]) == (429, "2")
    streams.pop().close()

    def has_room() -> bool:
        with ann.ask("GET", path) as response:
            return response.status == 200

    wait_for(has_room, "there is no room")
    streams.pop().close()
    ann.post("/waiting/runs/a/cancel", {})


WRONG: list[tuple[Any, list[str | int], str]] = [
    ({"inputs": {}}, ["body", "inputs", "to"], "Field required"),
    ({"inputs": {"to": ""}}, ["body", "inputs", "to"], "String should have at least 1 character"),
    ({"inputs": {"to": 3}}, ["body", "inputs", "to"], "Input should be a valid string"),
    (
        {"inputs": {"to": "Bob", "day": "soon"}},
        ["body", "inputs", "day"],
        "Input should be a valid date in the format YYYY-MM-DD, input is too short",
    ),
    (
        {"inputs": {"to": "Bob", "sent": "yes"}},
        ["body", "inputs"],
        "there is no input 'sent' (inputs: 'to', 'day', 'cents')",
    ),
    ({"inputs": LETTER, "when": 3}, ["body", "when"], "Extra inputs are not permitted"),
    ({"inputs": LETTER, "id": ".."}, ["body", "id"], "String should match pattern"),
    ({"inputs": LETTER, "labels": {"a": 1}}, ["body", "labels", "a"], "Input should be a valid st"),
    ({"inputs": LETTER, "thread": "a\0"}, ["body", "thread"], "String should match pattern"),
    (
        {"inputs": LETTER, "labels": {"a": "b\0"}},
        ["body", "labels", "a"],
        "String should match pattern",
    ),
    ([], ["body"], "Input should be an object"),
    ({"inputs": 1}, ["body", "inputs"], "Input should be an object"),
]


@pytest.mark.parametrize(("body", "place", "message"), WRONG)
def test_what_does_not_fit_is_told_by_its_place(
    service: Service, body: Any, place: list[str | int], message: str
) -> None:
    """A body is checked against the schema of the flow; what is wrong is named with its place."""
    served = service.client("errs").post("/letters/runs", body)
    assert served.status == 422
    (wrong,) = served.json["detail"]
    assert wrong["loc"] == place
    assert wrong["msg"].startswith(message)
    assert wrong.keys() == {"type", "loc", "msg"}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not JSON: Expecting property name enclosed in double quotes: line 1 column 2"),
        (b"\xff", "'utf-8' codec can't decode byte 0xff in position 0"),
        (b"NaN", "not JSON: NaN is not a number"),
        (b"[1e999]", "not JSON: 1e999 is too large for a number"),
        (b"[" * 5000, "not JSON that can be taken: it is nested too deeply"),
        (b'{"inputs": 1' + b"0" * 9000, "not JSON: a number of 9001 digits is too long"),
    ],
)
def test_what_is_no_json_is_refused(service: Service, body: bytes, says: str) -> None:
    """A body that cannot be read is refused as such, in words for who wrote it."""
    served = service.client("errs").send(
        "POST", "/letters/runs", body, Content_Type="application/json"
    )
    assert served.status == 422
    (wrong,) = served.json["detail"]
    assert (wrong["type"], wrong["msg"][: len(says)]) == ("json_invalid", says)


@pytest.mark.parametrize(
    "value", ["\ud800", {"a": "\ud800"}, [[[]]] * 3, 10**400], ids=["half", "key", "list", "long"]
)
def test_a_value_that_cannot_be_kept_is_refused(service: Service, value: Any) -> None:
    """Half a character, or what is no text, is told where it was given."""
    served = service.client("errs").post("/failing/runs", {"inputs": {"text": value}})
    assert served.status == 422
    assert service.client("\xe9").get("/letters/runs").status == 200


def test_an_answer_is_checked_and_taken_once(service: Service) -> None:
    """An answer that does not fit leaves the question open; the first that does counts."""
    ann = service.client("answers")
    begin(ann, "a")
    question = until(ann, "/letters/runs/a", "paused")["questions"][0]["question"]
    path = f"/letters/runs/a/questions/{question}"
    wrong = ann.post(path, {"answer": {"verdict": "perhaps"}})
    assert wrong.status == 422
    assert wrong.json["detail"][0]["loc"] == ["body", "answer", "verdict"]
    assert ann.post(path, {"answer": {"verdict": "\ud800"}}).status == 422
    bodies: list[Any] = [{}, {"answer": 1, "by": "me"}, [], 3]
    for body in bodies:
        assert ann.post(path, body).json["detail"][0]["loc"] == ["body"]
    assert ann.post("/letters/runs/a/questions/99999999", ok()).status == 404
    for number in ("99999999999999999999", "9" * 5000, "-1", "one"):
        assert ann.post(f"/letters/runs/a/questions/{number}", ok()).status == 404
    assert ann.post(path, ok()).status == 200
    again = ann.post(path, ok())
    assert (again.status, again.json["detail"]) == (409, "the question was answered already")
    until(ann, "/letters/runs/a", "completed")
    with WorkflowDB(service.log.with_name("runs.db"), read_only=True) as db:
        assert db.get_questions("answers/a")[0].answered_by == "answers"


def test_a_run_that_is_removed_ends_its_stream(service: Service) -> None:
    """Who follows a run that is removed sees the stream end, and then that there is no such run."""
    ann = service.client("pruned")
    begin(ann, "a")
    until(ann, "/letters/runs/a", "paused")
    path = "/letters/runs/a/events"
    with closing(ann.events(path)) as events:
        assert next(events)["kind"] == "flow_start"
        with WorkflowDB(service.log.with_name("runs.db")) as db:
            db.request_cancel("pruned/a")
            db.prune(keep=0, labels={"owner": "pruned"})
        assert {one["kind"] for one in events} <= {*ALL_KINDS}
    assert ann.get(path).status == 404


ALL_KINDS = ("node_start", "node_end", "node_ask", "flow_pause", "emit", "flow_cancelled")


def test_a_schema_of_types_is_one_too(service: Service) -> None:
    """A flow whose schema is a dict of types takes its inputs by them."""
    ann = service.client("untyped")
    wrong = begin(ann, "a", "/untyped", text=3)
    assert wrong.json["detail"][0]["loc"] == ["body", "inputs", "text"]
    assert begin(ann, "a", "/untyped", text="x").status == 202
    ann.post("/untyped/runs/a/cancel", {})


# -- following ------------------------------------------------------------------------------------


def test_a_follower_goes_on_from_any_event(service: Service) -> None:
    """Whatever event a client has seen last, it gets those after it; after the last, 204."""
    ann = service.client("reloads")
    begin(ann, "a")
    run = until(ann, "/letters/runs/a", "paused")
    ann.post(f"/letters/runs/a/questions/{run['questions'][0]['question']}", ok())
    until(ann, "/letters/runs/a", "completed")
    path = "/letters/runs/a/events"
    whole = list(ann.events(path))
    for place, event in enumerate(whole):
        number = str(event["number"])
        assert list(ann.events(path, Last_Event_ID=number)) == whole[place + 1 :]
        assert list(ann.events(f"{path}?after={number}")) == whole[place + 1 :]
    first = str(whole[0]["number"])
    assert list(ann.events(f"{path}?after=99", Last_Event_ID=first)) == whole[1:]
    last = ann.send("GET", path, Last_Event_ID=str(whole[-1]["number"]))
    assert (last.status, last.text) == (204, "")
    for wrong in ("x", "-2", "1.5", "9" * 30, str(1 << 40), "²"):
        served = ann.get(f"{path}?after={quote(wrong)}")
        assert (served.status, served.json["detail"][0]["loc"]) == (422, ["query", "after"])
    served = ann.send("GET", path, Last_Event_ID="x")
    assert served.json["detail"][0]["loc"] == ["header", "last-event-id"]


def test_a_stream_that_is_asked_for_its_head_ends(service: Service) -> None:
    """HEAD gives what a GET would begin with, and leaves no stream behind."""
    ann = service.client("heads")
    begin(ann, "a", "/waiting", text="x")
    served = ann.send("HEAD", "/waiting/runs/a/events")
    assert served.status == 200
    assert served.headers["content-type"].startswith("text/event-stream")
    wait_for(lambda: left(service, "streams") == 0, "there is a stream")
    ann.post("/waiting/runs/a/cancel", {})


def test_nothing_is_left_of_a_stream_whose_client_is_gone(service: Service) -> None:
    """Clients that leave in the middle leave no task behind, and the run goes on."""
    ann = service.client("leaves")
    begin(ann, "a", "/beating", text="x")
    until(ann, "/beating/runs/a", "paused")
    wait_for(lambda: left(service, "streams") == 0, "there are streams of others")
    before = left(service, "tasks")
    for _ in range(30):
        with closing(ann.events("/beating/runs/a/events")) as events:
            assert next(events)["kind"] == "flow_start"
            assert left(service, "tasks") > before
    wait_for(lambda: left(service, "tasks") <= before, "there are tasks of streams")
    assert left(service, "streams") == 0
    assert ann.get("/beating/runs/a").json["status"] == "paused"
    ann.post("/beating/runs/a/cancel", {})


def test_a_stream_without_events_shows_that_it_lives(service: Service) -> None:
    """Comments come while nothing happens, so that nothing on the way closes the stream."""
    ann = service.client("idles")
    begin(ann, "a", "/beating", text="x")
    beats = 0
    with ann.ask("GET", "/beating/runs/a/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-accel-buffering"] == "no"
        assert response.readline() == b"retry: 1000\n"
        while beats < 3:
            beats += response.readline() == b": still here\n"
    ann.post("/beating/runs/a/cancel", {})


def test_a_stream_ends_when_it_is_time(service: Service) -> None:
    """A stream ends in good order after a while; whoever follows asks again, and misses nothing."""
    ann, seen = service.client("renews"), list[Any]()
    begin(ann, "a", "/short", text="x")
    until(ann, "/short/runs/a", "paused")

    def follow() -> None:
        known = {"Last_Event_ID": str(seen[-1]["number"])} if seen else {}
        seen.extend(ann.events("/short/runs/a/events", **known))

    while not seen:
        follow()
    assert seen[0]["kind"] == "flow_start"
    ann.post("/short/runs/a/cancel", {})
    until(ann, "/short/runs/a", "cancelled")
    while seen[-1]["kind"] != "flow_cancelled":
        follow()
    assert seen == list(ann.events("/waiting/runs/a/events"))


FAILS = """
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from pocoflow.events import FlowStarted, Followed
from pocoflow.ext.web import WebLimits
from pocoflow.ext.web.sse import EventStream

ended = []


async def events():
    yield Followed(1, "2026-01-01T00:00:00+00:00", FlowStarted("r", "f", 0))
    raise RuntimeError("the reader is broken")


async def stream(request):
    return EventStream(events(), WebLimits(), lambda: ended.append(1))


async def count(request):
    return JSONResponse(len(ended))


app = Starlette(routes=[Route("/stream", stream), Route("/ended", count)])
"""


def test_a_stream_that_fails_breaks_off(tmp_path: Path) -> None:
    """Its client is not left waiting, nor takes it for whole; the server goes on, and logs why."""
    (tmp_path / "fails.py").write_text(FAILS)
    with Service("fails:app", tmp_path) as service:
        web = service.client()
        with web.ask("GET", "/stream") as response:
            assert response.status == 200
            with pytest.raises(http.client.IncompleteRead) as caught:
                response.read()
        assert b'"kind": "flow_start"' in caught.value.partial
        assert web.get("/ended").json == 1
        assert "RuntimeError: the reader is broken" in service.log.read_text()


def test_the_event_loop_is_free_while_the_database_is_not(tmp_path: Path) -> None:
    """Requests that wait for the database, of each kind, keep nobody else from being answered."""
    with serve(tmp_path) as service, ThreadPoolExecutor(20) as pool:
        ann = service.client("ann")
        begin(ann, "a")
        until(ann, "/letters/runs/a", "paused")
        successor = ann.events("/letters/runs/a/events")
        assert next(successor)["kind"] == "flow_start"
        holding = pool.submit(ann.post, "/hold", None)
        wait_for(lambda: service.client().get("/held").json is True, "nobody holds it")
        waiting: list[Future[Any]] = [
            pool.submit(ann.get, "/letters/runs"),
            pool.submit(ann.get, "/letters/runs/a"),
            pool.submit(ann.post, "/letters/runs/a/cancel", {}),
            pool.submit(begin, ann, "b"),
            pool.submit(lambda: next(ann.events("/letters/runs/a/events"))),
        ]
        for _ in range(50):
            assert service.client().get("/held").json is True
        assert not any(one.done() for one in waiting)
        assert service.client().post("/let_go", None).status == 200
        for one in (holding, *waiting):
            one.result(DEADLINE)
        assert [one["kind"] for one in successor][-1] == "flow_cancelled"


def test_a_server_that_stops_ends_its_streams(tmp_path: Path) -> None:
    """An open stream does not keep a server with a grace from stopping."""
    with serve(tmp_path, "--timeout-graceful-shutdown", "1") as service:
        ann = service.client("ann")
        begin(ann, "a")
        with closing(ann.events("/letters/runs/a/events")) as events:
            next(events)
            service.stop()


def test_runs_of_a_database_server_are_served_likewise(server: Server, tmp_path: Path) -> None:
    """On PostgreSQL a run is started, followed and answered, and limits are as exact."""
    with Service(APP, tmp_path, {"LETTERS_DB": server.url()}) as service:
        ann, bob = service.client("ann"), service.client("bob")
        begin(ann, "a")
        kinds = []
        for event in ann.events("/letters/runs/a/events"):
            kinds.append(event["kind"])
            if event["kind"] == "flow_pause":
                question = ann.get("/letters/runs/a").json["questions"][0]["question"]
                assert ann.post(f"/letters/runs/a/questions/{question}", ok()).status == 200
        assert (kinds.count("emit"), kinds[-1]) == (3, "flow_end")
        assert ann.get("/letters/runs/a").json["result"]["cents"] == 500
        assert bob.get("/letters/runs/a").status == 404
        with ThreadPoolExecutor(20) as pool:
            starts = pool.map(lambda n: begin(ann, f"run-{n}", "/waiting", text="x"), range(20))
            assert sorted(one.status for one in starts) == [202] * 3 + [429] * 17


# -- the description ------------------------------------------------------------------------------


def test_the_description_is_of_the_schema_and_the_questions(service: Service) -> None:
    """Inputs, result and answers are described by their types; every reference leads somewhere."""
    told = service.client("reads").get("/letters/openapi.json").json
    schemas = told["components"]["schemas"]
    inputs = schemas["letters.Inputs"]
    assert inputs["required"] == ["to"]
    assert inputs["properties"].keys() == {"to", "day", "cents"}
    assert inputs["properties"]["day"]["format"] == "date"
    assert "inner" not in schemas["letters.Result"]["properties"]
    answer = schemas["letters.Answering"]["properties"]["answer"]["$ref"].rpartition("/")[2]
    assert schemas[answer]["properties"]["verdict"]["enum"] == ["send", "edit"]
    assert {path.removeprefix("/letters") for path in told["paths"]} == {
        "/runs",
        "/runs/{run_id}",
        "/runs/{run_id}/events",
        "/runs/{run_id}/questions/{question}",
        "/runs/{run_id}/cancel",
    }
    text = json.dumps(told)
    found = {part.partition('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert found <= schemas.keys()
    assert "$defs" not in text


def test_the_description_joins_that_of_fastapi(service: Service, tmp_path: Path) -> None:
    """Descriptions of several apps go into that of the application around them."""

    class Shout(Node):
        def prep(self, store: Any) -> Any:
            return store["text"]

    app = FastAPI()
    described = app.openapi()
    described.setdefault("components", {}).setdefault("schemas", {})
    for name in ("one", "two"):
        flow: Flow[Any] = Flow(Shout(), flow_name=name, db_path=tmp_path / "runs.db")
        runs = RunsApp(flow, who=lambda request: "ann")
        app.mount(f"/{name}", runs)
        told = runs.openapi(f"/{name}")
        described["paths"] |= told["paths"]
        described["components"]["schemas"] |= told["components"]["schemas"]
        flow.database.close()
    assert {"/one/runs", "/two/runs"} <= app.openapi()["paths"].keys()
    assert {"one.Inputs", "two.Inputs"} <= app.openapi()["components"]["schemas"].keys()
