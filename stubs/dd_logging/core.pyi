import logging
from pathlib import Path
from typing import Final

LOG_LEVELS: Final[dict[str, int]]
LOG_FORMATS: Final[tuple[str, str, str]]
FORMATTER: Final[logging.Formatter]

class JsonlFormatter(logging.Formatter): ...

# An unknown log_level falls back to "info"; an unknown log_format is a ValueError. Both are read
# without regard to case, so they are plain strings here.
def setup_logging(
    run_name: str,
    *,
    root_name: str,
    adapter: str = "",
    model: str = "",
    log_level: str | None = None,
    log_dir: Path | str | None = None,
    console: bool = False,
    log_ext: str | None = None,
    log_format: str | None = None,
) -> Path: ...
def setup_console_logging(root_name: str, log_level: str | None = None) -> None: ...
def get_logger(name: str, root_name: str) -> logging.Logger: ...
def log_event(
    logger: logging.Logger, event: str, *, level: int = ..., **fields: object
) -> None: ...
def disable_logging(root_name: str) -> None: ...

class ProjectLogging:
    root_name: str
    log_dir: Path | str | None
    def __init__(self, root_name: str, *, log_dir: Path | str | None = None) -> None: ...
    def get_logger(self, name: str = "") -> logging.Logger: ...
    # At run time every keyword is passed on as it is (**kw). Written out, a misspelt one is an
    # error here; root_name is the facade's own.
    def setup_logging(
        self,
        run_name: str,
        *,
        adapter: str = "",
        model: str = "",
        log_level: str | None = None,
        log_dir: Path | str | None = None,
        console: bool = False,
        log_ext: str | None = None,
        log_format: str | None = None,
    ) -> Path: ...
    def setup_console_logging(self, log_level: str | None = None) -> None: ...
    def disable_logging(self) -> None: ...
    @staticmethod
    def log_event(
        logger: logging.Logger, event: str, *, level: int = ..., **fields: object
    ) -> None: ...
