"""Logging under ``pocoflow.*`` on dd-logging: silent until it is set up.

The loggers are ``pocoflow.store``, ``pocoflow.node``, ``pocoflow.flow``, ``pocoflow.db`` and
``pocoflow.runner``; the engine logs as ``pocoflow.flow``.
"""

from __future__ import annotations

import logging
from pathlib import Path

__all__ = ["ROOT", "disable_logging", "get_logger", "setup_logging"]

ROOT = "pocoflow"

logging.getLogger(ROOT).addHandler(logging.NullHandler())


def get_logger(name: str = "") -> logging.Logger:
    """Return the logger ``pocoflow.<name>``, or ``pocoflow`` itself without a name."""
    return logging.getLogger(f"{ROOT}.{name}" if name else ROOT)


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
    """Write what ``pocoflow.*`` logs to a file of its own, once at the start of an application.

    Args:
        run_name: First part of the name: ``logs/<run_name>[-<adapter>][-<model>]-<time>.log``.
        adapter: Second part of the file's name, such as the LLM provider.
        model: Third part of the file's name.
        log_level: ``"debug"``, ``"info"``, ``"warning"`` or ``"error"``; ``"info"`` by default.
        log_dir: Folder of the file, made if needed; ``./logs`` by default.
        console: Also print to standard error.
        log_format: ``"text"`` (the default), ``"jsonl"``, or ``"both"`` side by side.

    Returns:
        The absolute path of the (text) log file.

    Raises:
        ValueError: ``log_format`` is none of the three.
    """
    import dd_logging

    return dd_logging.setup_logging(
        run_name,
        root_name=ROOT,
        adapter=adapter,
        model=model,
        log_level=log_level,
        log_dir=log_dir,
        console=console,
        log_format=log_format,
    )


def disable_logging() -> None:
    """Close and remove every handler of ``pocoflow``; it is silent again."""
    import dd_logging

    dd_logging.disable_logging(ROOT)
    logging.getLogger(ROOT).addHandler(logging.NullHandler())
