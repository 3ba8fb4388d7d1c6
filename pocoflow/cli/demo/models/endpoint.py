"""A model behind an address: any endpoint that answers as OpenAI's chat completions do."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from pocoflow.cli.demo.models.chat import ModelError, NoModelError, OnToken, Prompt, read_piece

OPENAI = "https://api.openai.com/v1"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another address; it is reported instead."""

    def redirect_request(self, *args: object, **kwargs: object) -> None:
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

    def complete(self, prompt: Prompt, on_token: OnToken | None = None) -> str:
        """Answer a prompt; see :meth:`LanguageModel.complete`."""
        request = {"model": self._model, **prompt.as_chat()}
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

    def _post(self, request: dict[str, object]) -> IO[bytes]:
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
                piece = read_piece(json.loads(event))
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
            f"OPENAI_BASE_URL is {base_url!r}: it must be an address like {OPENAI!r}"
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
