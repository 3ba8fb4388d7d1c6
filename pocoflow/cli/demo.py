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

import argparse
import codecs
import importlib.util
import json
import re
import secrets
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TextIO, TypeAlias

from pydantic import BaseModel

import pocoflow
from pocoflow import Flow, Node, PocoflowError, Store, context
from pocoflow.cli.models import LanguageModel, OnToken, choose_model
from pocoflow.cli.output import CommandError, duration, one_line

__all__ = [
    "MAX_PASSAGES",
    "CheckError",
    "Entry",
    "ReadingCard",
    "Written",
    "build_flow",
    "register",
    "render_card",
    "run_demo",
]

MAX_PASSAGES = 6
_MAX_BYTES = 200_000
# Sizes of texts are in bytes of UTF-8: what a text costs a model grows with them.
_PASSAGE = 900  # at most, in a passage
_SHORT = 160  # a paragraph shorter than this goes with the next one
_LINE = 200  # in a line, unless there is no place to cut it
_ATTEMPTS = 4


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

    def post(self, store: Store[ReadingCard], text: str, passages: list[str]) -> Literal["split"]:
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
        return [line for line in telling if _size(line) <= _LINE] or telling

    def exec(self, lines: list[str]) -> str:
        """One of them, word for word."""
        if len(lines) == 1:
            return lines[0]
        answer = self.model.complete(
            f"{' '.join(lines)}\n\nWhat is the most important thing that happens?",
            max_tokens=100,
            schema=_object_with("line", enum=lines),
            seed=context().attempt - 1,
        )
        line = _read(answer, "line")
        if line not in lines:
            raise CheckError(f"“{one_line(line, 60)}” is no line of the passage")
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


_CONCISE = (
    "You're an AI assistant for text re-writing. Rewrite the input text to make it more concise "
    "while preserving its core meaning."
)


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
            (_CONCISE, ""),
        )
        if len(content_words(line)) < 2:
            raise CheckError("the line says too little to be reworded")
        seed, way = divmod(context().attempt - 1, len(ways))
        system, request = ways[way]
        answer = self.model.complete(
            request + as_sentence(line),
            system=system,
            max_tokens=60,
            seed=seed,
            on_token=self.on_token,
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
        return name_for(self.model, sentence, "Write a title for this text: {}", taken)

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
        told = " ".join(entry.sentence.text for entry in entries)[:_PASSAGE]
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
    _WORD.findall("""
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


def content_words(text: str) -> list[str]:
    """The words that carry what a text says, as written, each once."""
    words = (re.sub(r"(?:n[’']t|[’'].*)$", "", word) for word in _WORD.findall(text))
    return list(dict.fromkeys(w for w in words if 2 < len(w) < 30 and w.casefold() not in _STOP))


def _akin(word: str, other: str) -> bool:
    """Whether two words are the same or forms of one another, as far as their beginnings tell."""
    one, two = (w.casefold().replace("-", "") for w in (word, other))
    size = min(5, len(one), len(two))
    return one == two or (size > 3 and one[:size] == two[:size])


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
    if "\n" in sentence or _SENTENCES.search(sentence) or sentence[-1] not in '.!?”"':
        raise CheckError(f"“{one_line(sentence, 60)}” is not one whole sentence")
    if [w.casefold() for w in words] == [w.casefold() for w in _WORD.findall(line)]:
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


def name_for(model: LanguageModel, text: str, request: str, taken: Sequence[str]) -> Written:
    """Let the model make a name out of the words of a text.

    Raises:
        CheckError: The name does not pass :func:`check_name`.
    """
    words = content_words(text)
    if not words:
        raise CheckError("there are no words to make a name of")
    word = f"({'|'.join(words)})"
    rest = f"( (and|from|like|on|with) ((the|a|an) )?{word}( {word})?)"
    pattern = f"^((The|A|An) {word}( {word})?{rest}?|{word}( {word})?{rest})$"
    answer = model.complete(
        request.format(text),
        max_tokens=30,
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
        raise CheckError(f"“{one_line(name, 60)}” is no name of 2 to 8 words")
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
        raise CheckError(f"“{one_line(answer, 60)}” does not fit the JSON schema") from exc


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
        if _size(joined) < _SHORT:
            waiting = joined
        else:
            passages += _packed(split_lines(joined), _PASSAGE)
    return passages + ([waiting] if waiting else [])


def split_lines(passage: str) -> list[str]:
    """The lines of a passage: sentences and their halves, never cut inside quotation marks."""
    lines: list[str] = []
    words: list[str] = []
    quoted = False
    every = passage.split()
    for word, following in zip(every, [*every[1:], ""], strict=True):
        words.append(word)
        for mark in re.findall(r"[“”«»\"]", word):
            quoted = mark in "“«" or (mark == '"' and not quoted)
        # “Where are you?” cried his wife: the sentence has not ended there.
        ends = _LINE_END.search(word) and not (word[-1] in '”»"' and following[:1].islower())
        if ends and not quoted and len(words) > 3:
            lines.append(" ".join(words))
            words = []
    if words:
        lines.append(" ".join(words))
    return [part for line in lines for part in _cut_long(line)]


def _cut_long(line: str) -> list[str]:
    """A line, cut where a clause begins if it is long, and anywhere if it is far too long."""
    if _size(line) <= _LINE:
        return [line]
    width = 2 * _LINE * len(line) // _size(line)
    parts = _packed(_JOINTS.split(line), _LINE * 2 // 3)
    return [piece for part in parts for piece in textwrap.wrap(part, width)]


def _size(text: str) -> int:
    return len(text.encode())


def _packed(parts: Sequence[str], size: int) -> Iterator[str]:
    """Join neighbouring parts up to ``size``, and to the end of a bracket."""
    packed = ""
    for part in parts:
        closed = packed.count("(") <= packed.count(")")
        if packed and closed and _size(packed) + _size(part) >= size:
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
    return " ".join(words[:5])[:60].rstrip(".,;:!?”’\"') ") + ("…" if len(words) > 5 else "")


# -- the result -----------------------------------------------------------------------------------


def render_card(card: ReadingCard, source: str, model: str) -> str:
    """The card as Markdown. Where the text had to speak for itself, there is a † and a reason."""
    count = f"{len(card.passages)} passage{'s' if len(card.passages) > 1 else ''}"
    about = (
        f"*{_plain(source)}. {'The first ' if card.more else ''}{count}, read by {_plain(model)}.*"
    )
    lines = [f"# {_marked(card.title)}", "", about]
    asked = [card.title]
    for number, entry in enumerate(card.entries, 1):
        asked.append(entry.heading)
        kind = entry.kind.capitalize()
        if entry.kind == "narration":
            asked.append(entry.sentence)
            kind = f"{kind}: {_marked(entry.sentence)}"
        lines += ["", f"## {number}. {_marked(entry.heading)}", "", kind]
        if entry.sentence.by == "model" or entry.kind == "dialogue":  # else it is said already
            lines += ["", f"> {_plain(_excerpt(entry.line))}"]
    kept = [written for written in asked if written.by == "text"]
    lines += [
        "",
        "---",
        "",
        f"Of the {len(asked)} pieces asked of the model, {len(asked) - len(kept)}",
    ]
    lines[-1] += (
        " passed their check."
        if not kept
        else (" passed their check. The others are the text's own words (†); the last refusals:\n")
    )
    lines += [f"- {_plain(one_line(written.text, 40))}: {_plain(written.why)}" for written in kept]
    return "\n".join(lines) + "\n"


def _excerpt(line: str) -> str:
    """A line of the text, with … where the text goes on."""
    start = "" if line[0].isupper() or not line[0].isalpha() else "… "
    return start + (f"{line[:-1]} …" if line[-1] in ",;:" else line)


def _marked(written: Written) -> str:
    return _plain(written.text) + (" †" if written.by == "text" else "")


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]<>#|~])", r"\\\1", text)


# -- the command ----------------------------------------------------------------------------------


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``pocoflow demo``."""
    parser.description = (
        "Make a reading card of a text: a flow of typed steps, kept in a database, that lets a "
        "language model choose, reword and name, and checks what it says. Without FILE it reads "
        "the opening of Alice in Wonderland. The model runs on this machine, or is the endpoint "
        "that OPENAI_BASE_URL, OPENAI_API_KEY and OPENAI_MODEL name."
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        type=Path,
        help="a text in UTF-8; its beginning is read",
    )
    parser.add_argument(
        "--db", metavar="PATH", default="pocoflow.db", help="the database (pocoflow.db)"
    )
    parser.add_argument(
        "--out", metavar="FILE", type=Path, help="write the card to FILE instead of showing it"
    )
    parser.set_defaults(execute=lambda args: run_demo(args.file, db_path=args.db, card=args.out))


def run_demo(
    path: Path | None,
    *,
    db_path: str,
    card: Path | None = None,
    out: TextIO | None = None,
    err: TextIO | None = None,
    model: LanguageModel | None = None,
) -> int:
    """Run the demo and show its result; return the exit code.

    Args:
        path: A text file; the text that comes with pocoflow for ``None``.
        db_path: The SQLite file that keeps the run.
        card: Where to write the result; it goes to ``out`` for ``None``.
        out: Takes the result; standard output by default.
        err: Takes the progress and what to do next; standard error by default.
        model: Who reads; what :func:`choose_model` finds by default.

    Raises:
        CommandError: The text cannot be read, or the result could not be written.
        ModelError: There is no model, or it fails.
    """
    out, err = out or sys.stdout, err or sys.stderr
    source, text = read_text(path)
    if card is not None:
        _check_target(card, (path, Path(db_path)))
    model = model or choose_model()
    progress = Progress(err)
    flow = build_flow(model, db_path, progress.token if progress.live else None)
    flow.run_id = f"demo-{secrets.token_hex(4)}"
    progress.attach(flow)
    progress.say(f"{source}\nread by {model.label}\n")
    look = _how_to_look(flow.run_id, db_path)
    try:
        result = flow.run(Store({"text": text}, schema=ReadingCard)).to_model()
    except BaseException:
        if progress.begun:
            progress.say(f"\nThe run did not get to its end. What it did is kept:\n{look}\n")
        raise
    markdown = render_card(result, source, model.label)
    if card is None:
        progress.say("")
        print(markdown, end="", file=out, flush=True)
    else:
        try:
            card.write_text(markdown, "utf-8")
        except OSError as exc:
            print(markdown, end="", file=out, flush=True)  # not lost with the place for it
            raise CommandError(f"{card} cannot be written: {exc.strerror}", code=1) from exc
        progress.say(f"\nThe card is in {card}.")
    progress.say(f"The run is kept. Look at it with\n{look}")
    return 0


def read_text(path: Path | None) -> tuple[str, str]:
    """The name and the text of a file, or of the text that comes with pocoflow.

    Only the beginning of a large file is read.

    Raises:
        CommandError: The file is not there, is no text in UTF-8, or has no words.
    """
    if path is None:
        shipped = resources.files("pocoflow.cli").joinpath("texts", "alice.txt")
        name, _, text = shipped.read_text("utf-8").partition("\n")
        return name.rstrip("."), text
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as exc:
        raise CommandError(f"{path} cannot be read: {exc.strerror}") from exc
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    try:
        text = decoder.decode(data, final=len(data) <= _MAX_BYTES)
    except UnicodeDecodeError as exc:
        raise CommandError(f"{path} is not a text in UTF-8: {exc.reason}") from exc
    if "\0" in text:
        raise CommandError(f"{path} is not a text: it holds NUL bytes")
    text = "".join(c if c.isprintable() or c == "\n" else " " for c in "\n".join(text.splitlines()))
    if not _WORD.search(text):
        raise CommandError(f"{path} is empty: there are no words in it")
    return path.name, text


def _check_target(card: Path, others: Sequence[Path | None]) -> None:
    """Find out before the work, not after it, that the result has no place.

    Raises:
        CommandError: The folder is not there, or another file of the command would be overwritten.
    """
    try:
        if not card.parent.is_dir():
            raise CommandError(f"{card} cannot be written: there is no folder {card.parent}")
        if card.is_dir():
            raise CommandError(f"{card} cannot be written: it is a folder")
    except OSError as exc:
        raise CommandError(f"{card} cannot be written: {exc.strerror}") from exc
    if card.resolve() in (other.resolve() for other in others if other is not None):
        raise CommandError(f"--out {card} would overwrite a file that the demo works on")


def _how_to_look(run_id: str, db_path: str) -> str:
    """The commands that show a run, for a shell."""
    db = shlex.quote(db_path)
    look = f"  pocoflow runs show {run_id} --db {db}"
    monitor = Path(pocoflow.__file__).with_name("ui") / "monitor.py"
    if monitor.exists():
        look += f"\n  streamlit run {shlex.quote(str(monitor))} -- {db}"
        if importlib.util.find_spec("streamlit") is None:
            look += '   (after: pip install "pocoflow[ui]")'
    return look


class Progress:
    """A line for each step on a terminal or in a log; on a terminal, also what is going on."""

    def __init__(self, stream: TextIO) -> None:
        self.live = stream.isatty()
        self.begun = False
        self._stream = stream
        self._now = ""

    def attach(self, flow: Flow[ReadingCard]) -> None:
        """Listen to a flow."""
        flow.on("node_start", self.start).on("node_retry", self.retry).on("node_end", self.end)

    def start(self, name: str, store: Store[ReadingCard]) -> None:
        """A step begins."""
        self.begun = True
        self._show(f"{'':9}  {_place(store):>5}  {name}: ")

    def token(self, piece: str) -> None:
        """The model has written a little more."""
        self._show(self._now + piece)

    def retry(self, name: str, attempt: int, exc: Exception, store: Store[ReadingCard]) -> None:
        """An answer was refused."""
        self.say(f"{'':9}  {_place(store):>5}  {name}: refused, {exc}")
        self.start(name, store)

    def end(self, name: str, action: str, elapsed: float, store: Store[ReadingCard]) -> None:
        """A step has ended."""
        state = store.state
        results: dict[str, Callable[[], str]] = {
            "Split": lambda: f"{len(state.passages)} passages",
            "ChooseLine": lambda: state.line,
            "Rewrite": lambda: state.sentence.text,
            "Heading": lambda: state.entries[-1].heading.text,
            "Title": lambda: state.title.text,
        }
        result = results[name]() if name in results else ""
        place = _place(store, -1 if name == "Heading" else 0)
        self.say(
            f"{duration(elapsed):>9}  {place:>5}  {name} -> {action}{result and f': {result}'}"
        )

    def say(self, text: str) -> None:
        """Write whole lines, each cut to the width of a terminal."""
        if self.live:
            self._stream.write(_CLEAR)
        width = _width() if self.live else 120
        lines = [one_line(line, width) for line in text.split("\n")]
        print(*lines, sep="\n", file=self._stream, flush=True)

    def _show(self, line: str) -> None:
        self._now = line
        if self.live:
            print(f"{_CLEAR}{one_line(line, _width())}", end="", file=self._stream, flush=True)


_CLEAR = "\r\x1b[K"


def _width() -> int:
    return shutil.get_terminal_size().columns - 1


def _place(store: Store[ReadingCard], shift: int = 0) -> str:
    state = store.state
    number = state.position + 1 + shift
    return f"{number}/{len(state.passages)}" if number <= len(state.passages) else ""
