"""Checks of the answers of the demo's model against the text that it was given."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from pocoflow import PocoflowError
from pocoflow.cli.demo.passages import WORD
from pocoflow.cli.output import one_line

_NOT = re.compile(r"\b(?:not|no|never|nor|nothing|none|nobody|without)\b|n[’']t\b", re.IGNORECASE)
_PERSON = re.compile(r"\b(?:I|me|my|we|us|our|you|your)\b", re.IGNORECASE)
_SENTENCES = re.compile(r"[.!?][”’\"')]*\s+\S")
_STOP = frozenset(
    WORD.findall("""
    a about after again all also although an and another any are as at away be because been before
    began beginning being but by came can come could did do does down each either else even ever
    first for found from get getting give go going gone got had has have he her here hers herself
    him himself his how however i if in into is it its itself just let like made make may me might
    more most much must my neither never next no nor not nothing now of off on once one only or
    other our out over own put quite rather said saw say says see seem seemed shall she should so
    some something soon still such take taken than that the their them themselves then there these
    they thing things think this those though thought through till time to too took tried try twice
    under until up upon us very was way we well went were what when where whether which while who
    whom whose why will with without would yet you your
    """)
)


class CheckError(PocoflowError):
    """An answer of the model does not pass its check; the message says why."""


def content_words(text: str) -> list[str]:
    """The words that carry what a text says, as written, each once."""
    words = (re.sub(r"(?:n[’']t|[’'].*)$", "", word) for word in WORD.findall(text))
    return list(dict.fromkeys(w for w in words if 2 < len(w) < 30 and w.casefold() not in _STOP))


def _akin(word: str, other: str) -> bool:
    """Whether two words are the same or forms of one another, as far as their beginnings tell."""
    first, second = (w.casefold().replace("-", "") for w in (word, other))
    size = min(5, len(first), len(second))
    return first == second or (size > 3 and first[:size] == second[:size])


def _strangers(text: str, source: str) -> list[str]:
    known = content_words(source)
    return [word for word in content_words(text) if not any(_akin(word, k) for k in known)]


def check_rewrite(answer: str, line: str) -> str:
    """Return the sentence if it may stand for the line.

    Raises:
        CheckError: It is not one short sentence, is the line itself, brings in words or a person
            that the line does not have, or says not where the line does not (or the reverse).
    """
    sentence = answer.strip()
    words = WORD.findall(sentence)
    if not 4 <= len(words) <= 30:
        raise CheckError(f"{len(words)} words; a plain sentence has 4 to 30")
    if "\n" in sentence or _SENTENCES.search(sentence) or sentence[-1] not in '.!?”"':
        raise CheckError(f"“{one_line(sentence, 60)}” is not one whole sentence")
    if [w.casefold() for w in words] == [w.casefold() for w in WORD.findall(line)]:
        raise CheckError("it only repeats the line")
    lower = [word.casefold() for word in words]
    if again := [word for word in content_words(sentence) if lower.count(word.casefold()) > 2]:
        raise CheckError(f"it says “{again[0]}” again and again")
    if len(content_words(sentence)) < 2:
        raise CheckError(f"“{sentence}” says nothing")
    strange = _strangers(sentence, line)
    if len(strange) > len(words) // 12:
        raise CheckError(f"it brings in “{'”, “'.join(strange)}”, which the line does not have")
    if bool(_PERSON.search(sentence)) > bool(_PERSON.search(line)):
        raise CheckError("it speaks of me, us or you")
    if bool(_NOT.search(sentence)) != bool(_NOT.search(line)):
        raise CheckError("it says “not” where the line does not, or the reverse")
    return sentence


def check_name(name: str, text: str, taken: Sequence[str]) -> str:
    """Return the name if it is short, new and made of the words of the text.

    Raises:
        CheckError: It is not.
    """
    words = [word.casefold() for word in content_words(name)]
    if not words or len(WORD.findall(name)) not in range(2, 9):
        raise CheckError(f"“{one_line(name, 60)}” is no name of 2 to 8 words")
    every = [w.casefold() for w in WORD.findall(name) if w.casefold() not in _STOP]
    if any(_akin(a, b) for i, a in enumerate(every) for b in every[i + 1 :]):
        raise CheckError(f"“{name}” says a word twice")
    if strange := _strangers(name, text):
        raise CheckError(f"“{name}” brings in “{'”, “'.join(strange)}”")
    if name.casefold() in (other.casefold() for other in taken):
        raise CheckError(f"“{name}” is taken")
    return name[0].upper() + name[1:]


def only_checks(exc: Exception) -> str:
    """Why an answer was refused; any other exception is raised."""
    if not isinstance(exc, CheckError):
        raise exc
    return str(exc)


def object_with(field: str, **rule: object) -> dict[str, object]:
    """The JSON schema of an object with one text field."""
    return {
        "type": "object",
        "properties": {field: {"type": "string", **rule}},
        "required": [field],
        "additionalProperties": False,
    }


def read_field(answer: str, field: str) -> str:
    """The text field of an answer that is such an object.

    Raises:
        CheckError: The answer is something else.
    """
    try:
        return str(json.loads(answer)[field]).strip()
    except (ValueError, LookupError, TypeError) as exc:
        raise CheckError(f"“{one_line(answer, 60)}” does not fit the JSON schema") from exc
