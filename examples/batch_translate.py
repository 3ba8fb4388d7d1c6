"""A batch: one text translated into several languages at once, each translation a file.

``@node(each=...)`` calls the function for each language, four at a time. Every translation is
tried, retried and stored on its own, so a crash repeats none that was finished.

The translator is a resource, so that the flow does not know it. The one used here looks words up
in a small dictionary and leaves the others as they are. For a real one give the run any other
callable that takes a prompt: ``resources={llm: my_client}``.

Run it with ``python examples/batch_translate.py [FOLDER]``.
"""

import re
import sys
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel

from pocoflow import Flow, fields, node, resource

TEXT = "# Weather\n\n**Rain** tomorrow, *sun* on Sunday. See [wind](wind.md)."
ENGLISH = ["weather", "rain", "tomorrow", "sun", "on", "sunday", "see", "wind"]
WORDS = {
    "German": ["Wetter", "Regen", "morgen", "Sonne", "am", "Sonntag", "siehe", "Wind"],
    "French": ["météo", "pluie", "demain", "soleil", "le", "dimanche", "voir", "vent"],
    "Spanish": ["tiempo", "lluvia", "mañana", "sol", "el", "domingo", "ver", "viento"],
}


class LLM(Protocol):
    def __call__(self, prompt: str) -> str: ...


class Job(BaseModel):
    """What is translated, into which languages, and where the files go."""

    text: str
    languages: list[str]
    folder: Path
    translations: list[str] = []
    files: list[Path] = []


J = fields(Job)
llm = resource(LLM, "llm")


@node(each=J.languages, writes=J.translations, concurrency=4, max_retries=3)
def translate(language: str, text: str, llm: LLM = llm) -> str:
    return llm(f"Translate this Markdown into {language}, and return nothing else:\n{text}")


@node(writes=J.files)
def save(folder: Path, languages: list[str], translations: list[str]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"README_{language.upper()}.md" for language in languages]
    for file, translation in zip(files, translations, strict=True):
        file.write_text(translation, "utf-8")
    return files


flow = Flow(translate, flow_name="translate", schema=Job)
flow.then(translate, save)


def look_up_words(prompt: str) -> str:
    """Translate word by word; a stand-in for a language model."""
    request, _, text = prompt.partition("\n")
    language = next(one for one in WORDS if one in request)
    known = dict(zip(ENGLISH, WORDS[language], strict=True))
    return re.sub(r"(?<!\()\b\w+", lambda word: known.get(word[0].lower(), word[0]), text)


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "translations")
    job = Job(text=TEXT, languages=list(WORDS), folder=folder)
    for file in flow.run(job, resources={llm: look_up_words}).state.files:
        print(f"{file.name}: {file.read_text('utf-8').splitlines()[-1]}")
