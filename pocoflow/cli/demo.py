"""``pocoflow demo``: a reading card of a text, written by a language model whose work is checked.

The flow, a loop over the passages of the text::

    Split ──► ChooseLine ──speech──► Quote ────┐
                 ▲    └──────*─────► Rewrite ──┤
                 │                             ▼
                 └────────────next───────── Heading ──*──► Title

A small model knows few facts, so it is only asked to choose, to reword and to name what it was
given, and nothing that it says is taken on trust: an answer that fails its check is asked for
again, and in the end the text speaks for itself, which the card then says.
"""

from __future__ import annotations

import codecs
import json
import re
import secrets
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TextIO, TypeAlias

from pydantic import BaseModel

from pocoflow import Flow, Node, PocoflowError, Store, context
from pocoflow.cli.models import LanguageModel, OnToken, choose_model

__all__ = [
    "MAX_PASSAGES",
    "CheckError",
    "Entry",
    "InputError",
    "ReadingCard",
    "Written",
    "build_flow",
    "render_card",
    "run_demo",
]

MAX_PASSAGES = 6
_MAX_BYTES = 200_000
_PASSAGE = 900  # characters of a passage, at most
_SHORT = 160  # a paragraph shorter than this goes with the next one
_LINE = 200  # characters of a line, unless there is no place to cut it
_ATTEMPTS = 6


class InputError(PocoflowError):
    """What the user gave cannot be read as a text, or the result cannot be written."""


class CheckError(PocoflowError):
    """An answer of the model does not pass its check; the message says why."""


# -- the store ------------------------------------------------------------------------------------

Kind: TypeAlias = Literal["dialogue", "narration"]


class Written(BaseModel):
    """A piece of the card, and whose words it is in: the model's, or the text's own."""

    text: str
    by: Literal["model", "text"]
    why: str = ""


class Entry(BaseModel):
    """What the card says of one passage."""

    kind: Kind
    line: str
    sentence: Written
    heading: Written


class ReadingCard(BaseModel):
    """The state of a run. A field without a default is not set until a node writes it."""

    text: str
    passages: list[str] = []
    more: bool = False
    position: int = 0
    line: str
    kind: Kind
    sentence: Written
    entries: list[Entry] = []
    title: Written


# -- the nodes ------------------------------------------------------------------------------------


class Split(Node[str, list[str], Literal["split"]]):
    """Cut the text into passages."""

    def prep(self, store: Store[ReadingCard]) -> str:
        """The text."""
        return store.state.text

    def exec(self, text: str) -> list[str]:
        """Its passages."""
        return split_passages(text)

    def post(
        self, store: Store[ReadingCard], text: str, passages: list[str]
    ) -> Literal["split"]:
        """Keep as many as a card has room for."""
        store.update(passages=passages[:MAX_PASSAGES], more=len(passages) > MAX_PASSAGES)
        return "split"


class ChooseLine(Node[list[str], str, Literal["speech", "telling"]]):
    """Let the model choose one line of the passage; what it chooses decides the way."""

    max_retries = 2
    retry_on = CheckError

    def __init__(self, model: LanguageModel) -> None:
        self.model = model

    def prep(self, store: Store[ReadingCard]) -> list[str]:
        """The lines of the passage that say something and are not too long for a card."""
        lines = split_lines(store.state.passages[store.state.position])
        telling = [line for line in lines if len(content_words(line)) > 2] or lines
        return [line for line in telling if len(line) <= _LINE] or telling

    def exec(self, lines: list[str]) -> str:
        """One of them, word for word."""
        if len(lines) == 1:
            return lines[0]
        answer = self.model.complete(
            f"{' '.join(lines)}\n\nWhat is the most important thing that happens?",
            max_tokens=200,
            schema=_object_with("line", enum=lines),
            seed=context().attempt - 1,
        )
        line = _read(answer, "line")
        if line not in lines:
            raise CheckError(f"“{_cut(line, 60)}” is no line of the passage")
        return line

    def exec_fallback(self, lines: list[str], exc: Exception) -> str:
        """The first line."""
        _only_checks(exc)
        return lines[0]

    def post(
        self, store: Store[ReadingCard], lines: list[str], line: str
    ) -> Literal["speech", "telling"]:
        """Speech is quoted, everything else is reworded."""
        speech = is_speech(line)
        store.update(line=line, kind="dialogue" if speech else "narration")
        return "speech" if speech else "telling"


class Quote(Node[str, None, Literal["quoted"]]):
    """Keep what somebody says as it is: reworded, it would lose the voice."""

    def prep(self, store: Store[ReadingCard]) -> str:
        """The line."""
        return store.state.line

    def post(self, store: Store[ReadingCard], line: str, _: None) -> Literal["quoted"]:
        """The line is the sentence."""
        store.state.sentence = Written(text=line, by="text")
        return "quoted"


class Rewrite(Node[str, Written, Literal["reworded", "kept"]]):
    """Let the model say a line in one plain sentence; keep the line if it cannot."""

    max_retries = _ATTEMPTS
    retry_on = CheckError

    def __init__(self, model: LanguageModel, on_token: OnToken | None = None) -> None:
        self.model = model
        self.on_token = on_token

    def prep(self, store: Store[ReadingCard]) -> str:
        """The line."""
        return store.state.line

    def exec(self, line: str) -> Written:
        """The line in other words; every attempt asks in another way."""
        ways = (
            ("", "Rewrite this passage as one short, plain sentence:\n\n"),
            (
                "You're an AI assistant for text re-writing. Rewrite the input text to make it "
                "more concise while preserving its core meaning.",
                "",
            ),
        )
        seed, way = divmod(context().attempt - 1, len(ways))
        system, request = ways[way]
        answer = self.model.complete(
            request + as_sentence(line), system=system, max_tokens=60, seed=seed, on_token=self.on_token
        )
        return Written(text=check_rewrite(answer, line), by="model")

    def exec_fallback(self, line: str, exc: Exception) -> Written:
        """The line itself."""
        return Written(text=line, by="text", why=_only_checks(exc))

    def post(
        self, store: Store[ReadingCard], line: str, sentence: Written
    ) -> Literal["reworded", "kept"]:
        """Keep the sentence."""
        store.state.sentence = sentence
        return "reworded" if sentence.by == "model" else "kept"


class Heading(Node[tuple[str, list[str]], Written, Literal["next", "done"]]):
    """Let the model name the passage, write the entry, and go on to the next passage."""

    max_retries = _ATTEMPTS
    retry_on = CheckError

    def __init__(self, model: LanguageModel) -> None:
        self.model = model

    def prep(self, store: Store[ReadingCard]) -> tuple[str, list[str]]:
        """What to name, and the names that are taken."""
        return store.state.sentence.text, [entry.heading.text for entry in store.state.entries]

    def exec(self, given: tuple[str, list[str]]) -> Written:
        """A name made of the sentence's own words."""
        sentence, taken = given
        return name_for(self.model, sentence, "{}\n\nGive this passage a short title.", taken)

    def exec_fallback(self, given: tuple[str, list[str]], exc: Exception) -> Written:
        """The first words of the sentence."""
        return Written(text=first_words(given[0]), by="text", why=_only_checks(exc))

    def post(
        self, store: Store[ReadingCard], given: tuple[str, list[str]], heading: Written
    ) -> Literal["next", "done"]:
        """Add the entry."""
        state = store.state
        entry = Entry(kind=state.kind, line=state.line, sentence=state.sentence, heading=heading)
        position = state.position + 1
        store.update(entries=[*state.entries, entry], position=position)
        return "next" if position < len(state.passages) else "done"


class Title(Node[list[Entry], Written, Literal["titled"]]):
    """Let the model name the whole card."""

    max_retries = _ATTEMPTS
    retry_on = CheckError

    def __init__(self, model: LanguageModel) -> None:
        self.model = model

    def prep(self, store: Store[ReadingCard]) -> list[Entry]:
        """The entries."""
        return store.state.entries

    def exec(self, entries: list[Entry]) -> Written:
        """A name made of the words of the sentences; none of the headings, if there are several."""
        taken = [entry.heading.text for entry in entries] if len(entries) > 1 else []
        told = " ".join(entry.sentence.text for entry in entries)
        return name_for(self.model, told, "{}\n\nGive this story a short title.", taken)

    def exec_fallback(self, entries: list[Entry], exc: Exception) -> Written:
        """The first heading."""
        return Written(text=entries[0].heading.text, by="text", why=_only_checks(exc))

    def post(
        self, store: Store[ReadingCard], entries: list[Entry], title: Written
    ) -> Literal["titled"]:
        """Keep the title."""
        store.state.title = title
        return "titled"


def build_flow(
    model: LanguageModel, db_path: str | None, on_token: OnToken | None = None
) -> Flow[ReadingCard]:
    """Wire the demo; run it with ``flow.run(Store({"text": ...}, schema=ReadingCard))``.

    Args:
        model: Who chooses, rewords and names.
        db_path: The SQLite file that keeps the run, or ``None``.
        on_token: Told each piece of a rewrite as it arrives.
    """
    split, choose, quote = Split(), ChooseLine(model), Quote()
    rewrite, heading, title = Rewrite(model, on_token), Heading(model), Title(model)
    split.then("split", choose)
    choose.then("speech", quote).then("*", rewrite)
    quote.then("quoted", heading)
    rewrite.then("reworded", heading).then("kept", heading)
    heading.then("next", choose).then("*", title)
    return Flow(
        start=split,
        flow_name="demo",
        db_path=db_path,
        schema=ReadingCard,
        max_steps=3 * MAX_PASSAGES + 2,
    )


# -- checking what the model says -----------------------------------------------------------------

_WORD = re.compile(r"[^\W\d_]+(?:[’'-][^\W\d_]+)*")
_NOT = re.compile(r"\b(?:not|no|never|nor|nothing|none|nobody|without)\b|n[’']t\b", re.IGNORECASE)
_PERSON = re.compile(r"\b(?:I|me|my|we|us|our|you|your)\b", re.IGNORECASE)
_SENTENCES = re.compile(r"[.!?][”’\"')]*\s+\S")
_STOP = frozenset(
    """
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
    """.split()
)


def content_words(text: str) -> list[str]:
    """The words that carry what a text says, as written, each once."""
    words = (re.sub(r"(?:n[’']t|[’'].*)$", "", word) for word in _WORD.findall(text))
    return list(dict.fromkeys(w for w in words if len(w) > 2 and w.casefold() not in _STOP))


def _akin(word: str, other: str) -> bool:
    """Whether two words are the same or forms of one another, as far as their beginnings tell."""
    one, two = (w.casefold().replace("-", "") for w in (word, other))
    size = min(5, len(one), len(two))
    return one[:size] == two[:size]


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
    words = _WORD.findall(sentence)
    if not 4 <= len(words) <= 30:
        raise CheckError(f"{len(words)} words; a plain sentence has 4 to 30")
    if "\n" in sentence or _SENTENCES.search(sentence) or sentence[-1] not in ".!?”\"":
        raise CheckError(f"“{_cut(sentence, 60)}” is not one whole sentence")
    if [w.casefold() for w in words] == [w.casefold() for w in _WORD.findall(line)]:
        raise CheckError("it only repeats the line")
    strange = _strangers(sentence, line)
    if len(content_words(sentence)) < 2 or len(strange) > len(words) // 12:
        raise CheckError(f"it brings in “{'”, “'.join(strange)}”, which the line does not have")
    if bool(_PERSON.search(sentence)) > bool(_PERSON.search(line)):
        raise CheckError("it speaks of me, us or you")
    if bool(_NOT.search(sentence)) != bool(_NOT.search(line)):
        raise CheckError("it says not where the line does not, or the reverse")
    return sentence


def name_for(model: LanguageModel, text: str, request: str, taken: Sequence[str]) -> Written:
    """Let the model make a name out of the words of a text.

    Raises:
        CheckError: The name does not pass :func:`check_name`.
    """
    words = content_words(text)
    if not words:
        raise CheckError("there are no words to make a name of")
    word = f"({'|'.join(map(re.escape, words))})"
    rest = f"( (and|at|by|in|of|on|to|with|without) ((the|a|an) )?{word}( {word})?)"
    pattern = f"^((The|A|An) {word}( {word})?{rest}?|{word}( {word})?{rest})$"
    answer = model.complete(
        request.format(text),
        max_tokens=40,
        schema=_object_with("name", pattern=pattern),
        seed=context().attempt - 1,
    )
    return Written(text=check_name(_read(answer, "name"), text, taken), by="model")


def check_name(name: str, text: str, taken: Sequence[str]) -> str:
    """Return the name if it is short, new and made of the words of the text.

    Raises:
        CheckError: It is not.
    """
    words = [word.casefold() for word in content_words(name)]
    if not words or len(_WORD.findall(name)) not in range(2, 9):
        raise CheckError(f"“{_cut(name, 60)}” is no name of 2 to 8 words")
    every = [w.casefold() for w in _WORD.findall(name) if w.casefold() not in _STOP]
    if any(_akin(a, b) for i, a in enumerate(every) for b in every[i + 1 :]):
        raise CheckError(f"“{name}” says a word twice")
    if strange := _strangers(name, text):
        raise CheckError(f"“{name}” brings in “{'”, “'.join(strange)}”")
    if name.casefold() in (other.casefold() for other in taken):
        raise CheckError(f"“{name}” is taken")
    return name[0].upper() + name[1:]


def _only_checks(exc: Exception) -> str:
    """Why an answer was not taken; anything else that went wrong is no reason to go on."""
    if not isinstance(exc, CheckError):
        raise exc
    return str(exc)


def _object_with(field: str, **rule: object) -> dict[str, Any]:
    """The JSON schema of an object with one text field."""
    return {
        "type": "object",
        "properties": {field: {"type": "string", **rule}},
        "required": [field],
        "additionalProperties": False,
    }


def _read(answer: str, field: str) -> str:
    try:
        return str(json.loads(answer)[field]).strip()
    except (ValueError, LookupError, TypeError) as exc:
        raise CheckError(f"“{_cut(answer, 60)}” does not fit the JSON schema") from exc


# -- cutting a text -------------------------------------------------------------------------------

_LETTER = re.compile(r"[^\W\d_]")
_LINE_END = re.compile(r"[.!?;:][”’\"')\]]*$")
_JOINTS = re.compile(r"(?<=,) (?=(?:and|as|but|for|nor|or|so|till|until|when|while|yet)\b)")


def split_passages(text: str) -> list[str]:
    """The passages of a text: its paragraphs, short ones joined and long ones cut."""
    passages: list[str] = []
    waiting = ""
    for paragraph in re.split(r"\n\s*\n", text):
        if not _LETTER.search(paragraph):
            continue
        joined = f"{waiting} {' '.join(paragraph.split())}".strip()
        waiting = ""
        if len(joined) < _SHORT:
            waiting = joined
        else:
            passages += _packed(split_lines(joined), _PASSAGE)
    return passages + ([waiting] if waiting else [])


def split_lines(passage: str) -> list[str]:
    """The lines of a passage: sentences and their halves, never cut inside quotation marks."""
    lines: list[str] = []
    words: list[str] = []
    quoted = False
    for word in passage.split():
        words.append(word)
        for mark in re.findall(r"[“”«»\"]", word):
            quoted = mark in "“«" or (mark == '"' and not quoted)
        if not quoted and _LINE_END.search(word) and len(words) > 3:
            lines.append(" ".join(words))
            words = []
    if words:
        lines.append(" ".join(words))
    return [part for line in lines for part in _cut_long(line)]


def _cut_long(line: str) -> list[str]:
    """A line, cut where a clause begins if it is long, and anywhere if it is far too long."""
    if len(line) <= _LINE:
        return [line]
    parts = list(_packed(_JOINTS.split(line), _LINE * 2 // 3))
    return [part[i : i + _PASSAGE] for part in parts for i in range(0, len(part), _PASSAGE)]


def _packed(parts: Sequence[str], size: int) -> Iterator[str]:
    """Join neighbouring parts up to ``size`` characters, and to the end of a bracket."""
    packed = ""
    for part in parts:
        closed = packed.count("(") <= packed.count(")")
        if packed and closed and len(packed) + len(part) >= size:
            yield packed
            packed = ""
        packed = f"{packed} {part}".strip()
    if packed:
        yield packed


def is_speech(line: str) -> bool:
    """Whether a good part of a line stands in quotation marks."""
    quoted = re.findall(r"“[^”]*”?|«[^»]*»?|\"[^\"]*\"?", line)
    words = len(_WORD.findall(" ".join(quoted)))
    return words > 3 and 4 * words >= len(_WORD.findall(line))


def as_sentence(line: str) -> str:
    """A line as if it were a sentence of its own."""
    if line[-1] in ",;:":
        line = line[:-1] + "."
    return line[0].upper() + line[1:]


def first_words(text: str) -> str:
    """A heading of last resort: how the text begins."""
    words = text.strip("“”«»\"'‘’( ").split()
    return " ".join(words[:5]).rstrip(".,;:!?”’\"') ") + ("…" if len(words) > 5 else "")


def _cut(text: str, size: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= size else text[: size - 1].rstrip() + "…"


# -- the result -----------------------------------------------------------------------------------


def render_card(card: ReadingCard, source: str, model: str) -> str:
    """The card as Markdown. What the model did not manage is marked and explained."""
    count = f"{len(card.passages)} passage{'s' if len(card.passages) != 1 else ''}"
    if card.more:
        count = f"the first {count} of more"
    lines = [f"# {_mark(card.title)}", "", f"*{_plain(source)} ({count}), read by {_plain(model)}*"]
    for number, entry in enumerate(card.entries, 1):
        lines += ["", f"## {number}. {_mark(entry.heading)}", "", f"{entry.kind.capitalize()}."]
        if entry.sentence.by == "model":
            lines[-1] += f" {_plain(entry.sentence.text)}"
        elif entry.sentence.why:
            lines[-1] += " †"
        lines += ["", f"> {_plain(entry.line)}"]
    tasks = [card.title]
    for entry in card.entries:
        tasks.append(entry.heading)
        if entry.kind == "narration":
            tasks.append(entry.sentence)
    refused = [task for task in tasks if task.by == "text"]
    lines += ["", "---", "", f"{len(tasks) - len(refused)} of {len(tasks)} texts by the model"]
    lines[-1] += " passed their check." if not refused else (
        " passed their check; † marks the others, where the words are the text's own:"
    )
    lines += [f"{'' if n else chr(10)}- {_plain(_cut(t.text, 60))}: {_plain(t.why)}" for n, t in enumerate(refused)]
    return "\n".join(lines) + "\n"


def _mark(written: Written) -> str:
    return _plain(written.text) + (" †" if written.by == "text" else "")


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]<>#|~])", r"\\\1", text)


def read_text(path: Path | None) -> tuple[str, str]:
    """The name and the text of a file; of the one that comes with pocoflow for ``None``.

    Only the beginning of a huge file is read.

    Raises:
        InputError: The file is not there, is no text in UTF-8, or says nothing.
    """
    if path is None:
        shipped = resources.files("pocoflow.cli").joinpath("texts", "alice.txt")
        name, _, text = shipped.read_text("utf-8").partition("\n")
        return name.rstrip(".:"), text
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except IsADirectoryError:
        raise InputError(f"{path} is a folder; give a text file") from None
    except (OSError, ValueError) as exc:
        raise InputError(f"{path} cannot be read: {getattr(exc, 'strerror', exc)}") from exc
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    try:
        text = decoder.decode(data, final=len(data) <= _MAX_BYTES)
    except UnicodeDecodeError as exc:
        raise InputError(
            f"{path} is not a text in UTF-8 (byte {exc.start} is {data[exc.start]:#04x}); convert "
            "it first"
        ) from exc
    if "\0" in text:
        raise InputError(f"{path} is not a text: it has NUL bytes")
    text = "".join(c if c.isprintable() or c == "\n" else " " for c in _newlines(text))
    if not _LETTER.search(text):
        raise InputError(f"{path} has no text in it")
    return path.name, text


def _newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


# -- the command ----------------------------------------------------------------------------------


class Progress:
    """Tells on a terminal, or in a log, what the run is doing: a line for each step."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.live = stream.isatty()
        self._now = ""

    def attach(self, flow: Flow[ReadingCard]) -> None:
        """Listen to a flow."""
        flow.on("node_start", self.start).on("node_retry", self.retry).on("node_end", self.end)

    def start(self, name: str, store: Store[ReadingCard]) -> None:
        """A step begins: on a terminal, show it until it ends."""
        self._now = f"  {_place(store):>5}  {name:<10} "
        self._show(self._now + "…")

    def token(self, piece: str) -> None:
        """The model has written a little more."""
        self._now += " ".join(piece.split("\n"))
        self._show(self._now)

    def retry(self, name: str, attempt: int, exc: Exception, store: Store[ReadingCard]) -> None:
        """An answer was refused."""
        self.say(f"  {_place(store):>5}  {name:<10} again: {exc}")
        self.start(name, store)

    def end(self, name: str, action: str, elapsed: float, store: Store[ReadingCard]) -> None:
        """A step has ended."""
        state = store.state
        done = ""
        if name == "Split":
            done = f"{len(state.passages)} passages"
        elif name == "ChooseLine":
            done = f"{state.kind}: {_cut(state.line, 50)}"
        elif name == "Rewrite":
            done = _cut(state.sentence.text, 60)
        elif name == "Heading":
            done = state.entries[-1].heading.text
        elif name == "Title":
            done = state.title.text
        # TODO
        self.say(f"{elapsed:6.2f} s  {_place(store, name):>5}  {name:<10} -> {action:<9} {done}")

    def say(self, line: str) -> None:
        """Write a line of its own."""
        if self.live:
            self.stream.write("\r\x1b[K")
        write(self.stream, line + "\n")

    def _show(self, line: str) -> None:
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            write(self.stream, f"\r\x1b[K{line[:width]}")
