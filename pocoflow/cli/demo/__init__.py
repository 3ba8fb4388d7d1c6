"""``pocoflow demo``: a reading card of a text, written by a language model whose work is checked.

A small model knows few facts, so it is only asked to choose, to reword and to name what it is
given, and nothing that it says is trusted: an answer that fails its check is requested again, and
after the last attempt the words of the text itself are used, which the card then says.
"""

from __future__ import annotations

import argparse
import codecs
import importlib.util
import secrets
import shlex
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TextIO

from pocoflow import Flow, Store
from pocoflow.cli.database import add_file
from pocoflow.cli.demo.card import ReadingCard, render_card
from pocoflow.cli.demo.flow import build_flow
from pocoflow.cli.demo.models import LanguageModel, choose_model
from pocoflow.cli.demo.passages import WORD
from pocoflow.cli.demo.progress import Progress
from pocoflow.cli.output import CommandError

_MAX_BYTES = 200_000


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``pocoflow demo``."""
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        type=Path,
        help="a text in UTF-8; its beginning is read",
    )
    add_file(parser)
    parser.add_argument(
        "--out", metavar="FILE", type=Path, help="write the card to FILE instead of showing it"
    )
    parser.set_defaults(execute=demo)


def demo(args: argparse.Namespace) -> int:
    """Make a reading card of a text: a flow of typed steps, stored in a database, that lets a
    language model choose, reword and name, and checks its answers. Without FILE it reads the
    opening of Alice in Wonderland. The model runs on this machine, or is the endpoint that
    OPENAI_BASE_URL, OPENAI_API_KEY and OPENAI_MODEL name.
    """
    return run_demo(args.file, db_path=args.db, card=args.out)


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
        db_path: The SQLite file that stores the run.
        card: Where to write the result; it goes to ``out`` for ``None``.
        out: Receives the result; standard output by default.
        err: Receives the progress and what to do next; standard error by default.
        model: The language model; by default the result of :func:`choose_model`.

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
    result = _read(flow, text, progress, look)
    markdown = render_card(result, source, model.label)
    if card is None:
        progress.say("")
        print(markdown, end="", file=out, flush=True)
    else:
        _write(card, markdown, out)
        progress.say(f"\nThe card is in {card}.")
    progress.say(f"The run is kept. Look at it with\n{look}")
    return 0


def _read(flow: Flow[ReadingCard], text: str, progress: Progress, look: str) -> ReadingCard:
    try:
        return flow.run(Store({"text": text}, schema=ReadingCard)).to_model()
    except BaseException:
        if progress.has_started:
            progress.say(f"\nThe run did not get to its end. What it did is kept:\n{look}\n")
        raise


def _write(card: Path, markdown: str, out: TextIO) -> None:
    try:
        card.write_text(markdown, "utf-8")
    except OSError as exc:
        print(markdown, end="", file=out, flush=True)  # so that it is not lost
        raise CommandError(f"{card} cannot be written: {exc.strerror}", code=1) from exc


def read_text(path: Path | None) -> tuple[str, str]:
    """The name and the text of a file, or of the text that comes with pocoflow.

    Only the beginning of a large file is read.

    Raises:
        CommandError: The file does not exist, is not a text in UTF-8, or has no words.
    """
    if path is None:
        shipped = resources.files("pocoflow.cli.demo").joinpath("texts", "alice.txt")
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
    """Check before the work, not after it, that the result can be written.

    Raises:
        CommandError: The folder does not exist, or a file of the command would be overwritten.
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
    look = f"  pocoflow runs show {run_id} --db {db}\n  pocoflow monitor {db}"
    has_page = importlib.util.find_spec("streamlit") is not None
    return look if has_page else f'{look}   (after: pip install "pocoflow[ui]")'
