"""Logging under ``pocoflow.*`` on dd-logging.

Without any setup, Python's handler of last resort prints warnings to standard error, except for the
events of a run, whose errors are raised.

The loggers are ``pocoflow.store``, ``pocoflow.node``, ``pocoflow.flow``, ``pocoflow.db`` and
``pocoflow.runner``; the engine logs as ``pocoflow.flow``.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pocoflow.messages import escape

__all__ = ["ROOT", "OwnLogger", "disable_logging", "get_logger", "setup_logging"]

ROOT = "pocoflow"

_NO_NAME = re.compile(r"[\x00-\x1f\x7f/\\:]+")
_NO_MODEL = re.compile(r"[^A-Za-z0-9._-]+")
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)


def get_logger(name: str = "") -> logging.Logger:
    """Return the logger ``pocoflow.<name>``, or ``pocoflow`` itself without a name."""
    return logging.getLogger(f"{ROOT}.{name}" if name else ROOT)


class OwnLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger of this library: a handler that fails, as on a closed stream, never ends a run.

    Args:
        name: The name of the logger after ``pocoflow.``.
    """

    def __init__(self, name: str) -> None:
        super().__init__(get_logger(name), {})

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log, ignoring errors of handlers; the record names the caller of this method."""
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        with suppress(Exception):
            super().log(level, msg, *args, **kwargs)


def setup_logging(
    run_name: str,
    *,
    adapter: str = "",
    model: str = "",
    log_level: str | None = None,
    log_dir: Path | str | None = None,
    console: bool = False,
    log_format: str | None = None,
) -> Path:
    """Write what ``pocoflow.*`` logs to a separate file; call it at the start of an application.

    The file is private (mode 0600). Each record begins a line; its further lines, such as a
    traceback, are indented, and characters that a terminal would interpret are escaped.

    Args:
        run_name: First part of the name: ``logs/<run_name>[-<adapter>][-<model>]-<time>.log``; a
            ``-`` replaces path separators.
        adapter: Second part of the file's name, such as the LLM provider.
        model: Third part of the file's name.
        log_level: ``"debug"``, ``"info"``, ``"warning"`` or ``"error"``; ``"info"`` by default.
        log_dir: Folder of the file, created if needed; ``./logs`` by default.
        console: Also print to standard error.
        log_format: ``"text"`` (the default), ``"jsonl"``, or ``"both"``, in two files.

    Returns:
        The absolute path of the (text) log file.

    Raises:
        ValueError: ``log_format`` is none of the three.
    """
    import dd_logging

    chosen = (log_format or os.environ.get("DD_LOG_FORMAT") or "text").lower()
    if chosen not in dd_logging.LOG_FORMATS:
        known = ", ".join(dd_logging.LOG_FORMATS)
        raise ValueError(f"log_format is one of {known}, not {chosen!r}")
    folder = Path(log_dir or os.environ.get("DD_LOG_DIR") or "logs").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    model = _NO_MODEL.sub("-", model).strip("-")
    parts = [run_name, *filter(None, (adapter, model)), time.strftime("%Y%m%d-%H%M%S")]
    stem = "-".join(_NO_NAME.sub("-", part) for part in parts)
    endings = {"text": (".log",), "jsonl": (".jsonl",)}.get(chosen, (".log", ".jsonl"))
    files = [folder / f"{stem}{ending}" for ending in endings]
    handlers: list[logging.Handler] = [_PrivateFile(file, encoding="utf-8") for file in files]
    root = logging.getLogger(ROOT)
    for old in [handler for handler in root.handlers if isinstance(handler, _PrivateFile)]:
        root.removeHandler(old)
        old.close()
    # It replaces the terminal handler of an earlier call.
    dd_logging.setup_console_logging(ROOT, log_level)
    terminal = root.handlers[-1]
    if not console:
        root.removeHandler(terminal)
    terminal.setFormatter(_Text(dd_logging.FORMATTER))
    for file, handler in zip(files, handlers, strict=True):
        is_json = file.suffix == ".jsonl"
        handler.setFormatter(_Json(dd_logging.JsonlFormatter()) if is_json else terminal.formatter)
        handler.setLevel(terminal.level)
        root.addHandler(handler)
    return files[0].resolve()


def disable_logging() -> None:
    """Close and remove every handler of ``pocoflow``; from then on it is silent."""
    import dd_logging

    dd_logging.disable_logging(ROOT)
    logging.getLogger(ROOT).addHandler(logging.NullHandler())


class _PrivateFile(logging.FileHandler):
    """A file that only its owner can access, from its first byte on, and that is not a link."""

    def _open(self) -> io.TextIOWrapper:
        def opener(path: str, flags: int) -> int:
            return os.open(path, flags | _NOFOLLOW, 0o600)

        return open(self.baseFilename, "a", encoding=self.encoding, opener=opener)


class _Text(logging.Formatter):
    """Lines that cannot be mistaken for those of another record."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        text = self._inner.format(record).replace("\t", "    ")
        return "\n    ".join(escape(line) for line in text.split("\n"))


class _Json(_Text):
    """An object in one line, for any definition of line breaks."""

    def format(self, record: logging.LogRecord) -> str:
        return escape(self._inner.format(record), lambda char: json.dumps(char)[1:-1])
