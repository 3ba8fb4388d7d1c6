"""``pocoflow monitor``: start the monitor of ``pocoflow.ui`` for a browser on this machine."""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator

from pocoflow.cli.failures import given_options
from pocoflow.cli.output import CommandError
from pocoflow.db.postgres import is_server, url_of
from pocoflow.views.targets import add_page, add_repeated

_VARIABLE = "POCOFLOW_DATABASE"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``pocoflow monitor``."""
    add_page(parser)
    parser.add_argument(
        "--port", metavar="N", type=_port, default=8501, help="where the page is served (8501)"
    )
    host = "another name of the page, with any port, besides 127.0.0.1 and localhost with this "
    host += "port, such as that of a proxy"
    add_repeated(parser, "--allow-host", "NAME", _host, host)
    parser.set_defaults(execute=run_monitor)


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, a number from 1 to 65535")
    return int(text)


def _host(text: str) -> str:
    if not re.fullmatch(r"[\w.:-]+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a host")
    return text


def run_monitor(args: argparse.Namespace) -> int:
    """Watch the runs in a database in the browser, while they run. The page can be reached from
    this machine only, and fetches nothing from anywhere. The database is only read, except to
    record answers to questions; with --flow, runs of that flow can be resumed, forked and
    cancelled.
    """
    command = [sys.executable, *_command(args)]
    sys.stdout.flush()
    if os.name == "posix":
        os.execv(command[0], command)
    return subprocess.call(command)


def _command(args: argparse.Namespace) -> Iterator[str]:
    if importlib.util.find_spec("streamlit") is None:
        raise CommandError("the monitor needs Streamlit: pip install 'pocoflow[ui]'", code=1)
    # By name, as the command line does not import the monitor and its dependencies.
    yield from ("-m", "pocoflow.ui", str(args.port), ",".join(args.allow_host))
    if is_server(args.db):
        # A password belongs in the environment of the process, not in its command line.
        os.environ[_VARIABLE] = url_of(args.db)
        yield from ("--db-env", _VARIABLE)
    else:
        yield args.db
    if args.flow:
        yield from ("--flow", args.flow)
    for option in given_options(args):
        yield from option
