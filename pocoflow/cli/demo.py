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
import re
import secrets
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Literal, TextIO, TypeAlias

from pydantic import BaseModel

import pocoflow
from pocoflow import Flow, Node, Store, context
from pocoflow.cli.grounding import (
    CheckError,
    Written,
    check_rewrite,
    content_words,
    name_for,
    object_with,
    only_checks,
    read_field,
)
from pocoflow.cli.models import LanguageModel, OnToken, choose_model
from pocoflow.cli.output import CommandError, duration, one_line, printable
from pocoflow.cli.passages import (
    LINE,
    PASSAGE,
    WORD,
    as_sentence,
    first_words,
    is_speech,
    size_of,
    split_lines,
    split_passages,
)

__all__ = [
    "MAX_PASSAGES",
    "Entry",
    "ReadingCard",
    "build_flow",
    "register",
    "render_card",
    "run_demo",
]

MAX_PASSAGES = 6
_MAX_BYTES = 200_000
_ATTEMPTS = 4


# -- the store ------------------------------------------------------------------------------------

Kind: TypeAlias = Literal["dialogue", "narration"]


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
        return [line for line in telling if size_of(line) <= LINE] or telling

    def exec(self, lines: list[str]) -> str:
        """One of them, word for word."""
        if len(lines) == 1:
            return lines[0]
        answer = self.model.complete(
            f"{' '.join(lines)}\n\nWhat is the most important thing that happens?",
            max_tokens=100,
            schema=object_with("line", enum=lines),
            seed=context().attempt - 1,
        )
        line = read_field(answer, "line")
        if line not in lines:
            raise CheckError(f"“{one_line(line, 60)}” is no line of the passage")
        return line

    def exec_fallback(self, lines: list[str], exc: Exception) -> str:
        """The first line."""
        only_checks(exc)
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
        return Written(text=line, by="text", why=only_checks(exc))

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
        return Written(text=first_words(given[0]), by="text", why=only_checks(exc))

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
        told = " ".join(entry.sentence.text for entry in entries)[:PASSAGE]
        return name_for(self.model, told, "{}\n\nGive this story a short title.", taken)

    def exec_fallback(self, entries: list[Entry], exc: Exception) -> Written:
        """The first heading."""
        return Written(text=entries[0].heading.text, by="text", why=only_checks(exc))

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
    if not WORD.search(text):
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
        self._step(f"{'':9}  {_place(store):>5}  {name}: refused, {exc}")
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
        self._step(
            f"{duration(elapsed):>9}  {place:>5}  {name} -> {action}{result and f': {result}'}"
        )

    def say(self, text: str) -> None:
        """Write whole lines."""
        if self.live:
            self._stream.write(_CLEAR)
        print(*map(printable, text.split("\n")), sep="\n", file=self._stream, flush=True)

    def _step(self, line: str) -> None:
        self.say(one_line(line, _width() if self.live else 120))

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
