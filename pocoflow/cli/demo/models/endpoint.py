"""A model behind an address: any endpoint that answers as OpenAI's chat completions do."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from pocoflow.cli.demo.models.chat import INSTALL, ModelError, NoModelError, OnToken, Prompt

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
