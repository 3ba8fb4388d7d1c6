"""The reading card: the results of the demo about a text, and their Markdown form."""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

from pydantic import BaseModel

from pocoflow.cli.output import one_line
from pocoflow.messages import counted

Kind: TypeAlias = Literal["dialogue", "narration"]


class Written(BaseModel):
    """A piece of the card, in the words of the model or of the text itself."""

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


def render_card(card: ReadingCard, source: str, model: str) -> str:
    """The card as Markdown. Pieces in the words of the text are marked with a † and a reason."""
    count = counted(len(card.passages), "passage")
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
        if entry.sentence.by == "model" or entry.kind == "dialogue":  # else it is shown already
            lines += ["", f"> {_plain(_excerpt(entry.line))}"]
    return "\n".join([*lines, "", "---", "", *_account(asked)]) + "\n"


def _account(asked: list[Written]) -> list[str]:
    """How much of what the model was asked for passed its check, and why the rest did not."""
    refused = [written for written in asked if written.by == "text"]
    share = f"Of the {len(asked)} pieces asked of the model, {len(asked) - len(refused)}"
    passed = f"{share} passed their check."
    if not refused:
        return [passed]
    reasons = (f"- {_plain(one_line(piece.text, 40))}: {_plain(piece.why)}" for piece in refused)
    note = "The others are the text's own words (†); the last refusals:"
    return [f"{passed} {note}", "", *reasons]


def _excerpt(line: str) -> str:
    """A line of the text, with … where the text goes on."""
    start = "" if line[0].isupper() or not line[0].isalpha() else "… "
    return start + (f"{line[:-1]} …" if line[-1] in ",;:" else line)


def _marked(written: Written) -> str:
    return _plain(written.text) + (" †" if written.by == "text" else "")


def _plain(text: str) -> str:
    """The text, escaped for Markdown."""
    return re.sub(r"([\\`*_\[\]<>#|~])", r"\\\1", text)
