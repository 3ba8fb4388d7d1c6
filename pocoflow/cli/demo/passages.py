"""A text cut into passages and lines, for the demo: each is a piece that a small model can take."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence

# Sizes of texts are in bytes of UTF-8: what a text costs a model grows with them.
PASSAGE = 900  # at most, in a passage
_SHORT = 160  # a paragraph shorter than this goes with the next one
LINE = 200  # in a line, unless there is no place to cut it

WORD = re.compile(r"[^\W\d_]+(?:[’'-][^\W\d_]+)*")
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
        if size_of(joined) < _SHORT:
            waiting = joined
        else:
            passages += _packed(split_lines(joined), PASSAGE)
    return passages + ([waiting] if waiting else [])


def split_lines(passage: str) -> list[str]:
    """The lines of a passage: sentences and their halves, never cut inside quotation marks."""
    lines: list[str] = []
    words: list[str] = []
    quoted = False
    every = passage.split()
    for word, next_word in zip(every, [*every[1:], ""], strict=True):
        words.append(word)
        for mark in re.findall(r"[“”«»\"]", word):
            quoted = mark in "“«" or (mark == '"' and not quoted)
        # “Where are you?” cried his wife: the sentence has not ended there.
        ends = _LINE_END.search(word) and not (word[-1] in '”»"' and next_word[:1].islower())
        if ends and not quoted and len(words) > 3:
            lines.append(" ".join(words))
            words = []
    if words:
        lines.append(" ".join(words))
    return [part for line in lines for part in _cut_long(line)]


def _cut_long(line: str) -> list[str]:
    """A line, cut where a clause begins if it is long, and anywhere if it is far too long."""
    if size_of(line) <= LINE:
        return [line]
    width = 2 * LINE * len(line) // size_of(line)
    parts = _packed(_JOINTS.split(line), LINE * 2 // 3)
    return [piece for part in parts for piece in textwrap.wrap(part, width)]


def size_of(text: str) -> int:
    """The size of a text as a model counts it, about: its bytes in UTF-8."""
    return len(text.encode())


def _packed(parts: Sequence[str], size: int) -> Iterator[str]:
    """Join neighbouring parts up to ``size``, and to the end of a bracket."""
    packed = ""
    for part in parts:
        closed = packed.count("(") <= packed.count(")")
        if packed and closed and size_of(packed) + size_of(part) >= size:
            yield packed
            packed = ""
        packed = f"{packed} {part}".strip()
    if packed:
        yield packed


def is_speech(line: str) -> bool:
    """Whether a good part of a line stands in quotation marks."""
    quoted = re.findall(r"“[^”]*”?|«[^»]*»?|\"[^\"]*\"?", line)
    words = len(WORD.findall(" ".join(quoted)))
    return words > 3 and 4 * words >= len(WORD.findall(line))


def as_sentence(line: str) -> str:
    """A line as if it were a sentence of its own."""
    if line[-1] in ",;:":
        line = line[:-1] + "."
    return line[0].upper() + line[1:]


def first_words(text: str) -> str:
    """A heading of last resort: how the text begins."""
    words = text.strip("“”«»\"'‘’( ").split()
    return " ".join(words[:5])[:60].rstrip(".,;:!?”’\"') ") + ("…" if len(words) > 5 else "")
