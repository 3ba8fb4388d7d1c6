"""The flow of the demo: a loop over the passages of the text, and a title at its end.

::

    Split ──► ChooseLine ──speech──► Quote ────┐
                 ▲    └──────*─────► Rewrite ──┤
                 │                             ▼
                 └────────────next───────── Heading ──*──► Title

The answers of the model are checked in ``exec``, so that a refused answer is requested again there;
``exec_fallback`` uses the words of the text itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pocoflow import Flow, Node, Store, context
from pocoflow.cli.demo.card import Entry, ReadingCard, Written
from pocoflow.cli.demo.grounding import (
    CheckError,
    check_name,
    check_rewrite,
    content_words,
    object_with,
    only_checks,
    read_field,
)
from pocoflow.cli.demo.models import LanguageModel, OnToken, Prompt
from pocoflow.cli.demo.passages import (
    LINE,
    PASSAGE,
    as_sentence,
    first_words,
    is_speech,
    size_of,
    split_lines,
    split_passages,
)
from pocoflow.cli.output import one_line
from pocoflow.nodes.base import ExecT, PostT, PrepT

MAX_PASSAGES = 6


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


class AskModel(Node[PrepT, ExecT, PostT]):
    """A node that asks the model, and asks again if the answer does not pass its check."""

    max_retries = 4
    retry_on = CheckError

    def __init__(self, model: LanguageModel) -> None:
        self.model = model


class ChooseLine(AskModel[list[str], str, Literal["speech", "telling"]]):
    """Let the model choose one line of the passage; its choice decides the next node."""

    max_retries = 2

    def prep(self, store: Store[ReadingCard]) -> list[str]:
        """The lines of the passage that say something and are not too long for a card."""
        lines = split_lines(store.state.passages[store.state.position])
        telling = [line for line in lines if len(content_words(line)) > 2] or lines
        return [line for line in telling if size_of(line) <= LINE] or telling

    def exec(self, lines: list[str]) -> str:
        """One of them, word for word."""
        if len(lines) == 1:
            return lines[0]
        prompt = Prompt(
            f"{' '.join(lines)}\n\nWhat is the most important thing that happens?",
            max_tokens=100,
            schema=object_with("line", enum=lines),
            seed=context().attempt - 1,
        )
        answer = self.model.complete(prompt)
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


class Rewrite(AskModel[str, Written, Literal["reworded", "kept"]]):
    """Let the model say a line in one plain sentence; keep the line if it cannot."""

    def __init__(self, model: LanguageModel, on_token: OnToken | None = None) -> None:
        super().__init__(model)
        self.on_token = on_token

    def prep(self, store: Store[ReadingCard]) -> str:
        """The line."""
        return store.state.line

    def exec(self, line: str) -> Written:
        """The line in other words; every attempt asks in another way."""
        prompts = (
            ("", "Rewrite this passage as one short, plain sentence:\n\n"),
            (_CONCISE, ""),
        )
        if len(content_words(line)) < 2:
            raise CheckError("the line says too little to be reworded")
        seed, index = divmod(context().attempt - 1, len(prompts))
        system, request = prompts[index]
        prompt = Prompt(request + as_sentence(line), system=system, max_tokens=60, seed=seed)
        answer = self.model.complete(prompt, self.on_token)
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


def _name_for(model: LanguageModel, text: str, request: str, taken: Sequence[str]) -> Written:
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
    prompt = Prompt(
        request.format(text),
        max_tokens=30,
        schema=object_with("name", pattern=pattern),
        seed=context().attempt - 1,
    )
    answer = model.complete(prompt)
    return Written(text=check_name(read_field(answer, "name"), text, taken), by="model")


class Heading(AskModel[tuple[str, list[str]], Written, Literal["next", "done"]]):
    """Let the model name the passage, write the entry, and go on to the next passage."""

    def prep(self, store: Store[ReadingCard]) -> tuple[str, list[str]]:
        """What to name, and the names that are taken."""
        return store.state.sentence.text, [entry.heading.text for entry in store.state.entries]

    def exec(self, given: tuple[str, list[str]]) -> Written:
        """A name made of the sentence's own words."""
        sentence, taken = given
        return _name_for(self.model, sentence, "Write a title for this text: {}", taken)

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


class Title(AskModel[list[Entry], Written, Literal["titled"]]):
    """Let the model name the whole card."""

    def prep(self, store: Store[ReadingCard]) -> list[Entry]:
        """The entries."""
        return store.state.entries

    def exec(self, entries: list[Entry]) -> Written:
        """A name made of the words of the sentences; none of the headings, if there are several."""
        taken = [entry.heading.text for entry in entries] if len(entries) > 1 else []
        sentences = " ".join(entry.sentence.text for entry in entries)[:PASSAGE]
        return _name_for(self.model, sentences, "{}\n\nGive this story a short title.", taken)

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
        model: The model that chooses, rewords and names.
        db_path: The SQLite file that stores the run, or ``None``.
        on_token: Called with each piece of a rewrite as it arrives.
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
