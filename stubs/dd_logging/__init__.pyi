"""Stubs for dd-logging 0.2, which ships neither stubs nor ``py.typed``."""

from typing import Final

from dd_logging.core import (
    FORMATTER as FORMATTER,
    LOG_FORMATS as LOG_FORMATS,
    LOG_LEVELS as LOG_LEVELS,
    JsonlFormatter as JsonlFormatter,
    ProjectLogging as ProjectLogging,
    disable_logging as disable_logging,
    get_logger as get_logger,
    log_event as log_event,
    setup_console_logging as setup_console_logging,
    setup_logging as setup_logging,
)

__version__: Final[str]

__all__ = [
    "FORMATTER",
    "LOG_FORMATS",
    "LOG_LEVELS",
    "JsonlFormatter",
    "ProjectLogging",
    "disable_logging",
    "get_logger",
    "log_event",
    "setup_console_logging",
    "setup_logging",
]
