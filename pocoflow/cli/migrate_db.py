"""``pocoflow migrate-db``: bring a file of version 0.2.1 to the layout of this version."""

from __future__ import annotations

import argparse

from pocoflow.cli.database import open_database
from pocoflow.cli.output import printable
from pocoflow.views.targets import DATABASE, check_there


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``pocoflow migrate-db``."""
    parser.add_argument(
        "database",
        metavar="FILE",
        nargs="?",
        default=DATABASE,
        help=f"the database ({DATABASE})",
    )
    parser.add_argument(
        "--close-running",
        action="store_true",
        help="record the runs that read as running as interrupted: no process of 0.2.1 is active "
        "any more",
    )
    parser.set_defaults(execute=migrate_db)


def migrate_db(args: argparse.Namespace) -> int:
    """Bring a database that version 0.2.1 wrote to the layout of this version, in one transaction,
    keeping a copy of it. Programs of 0.2.1 cannot use the file any more. Commands that only read
    never need this.
    """
    check_there(args.database, "name it with FILE")
    with open_database(args.database, read_only=False) as db:
        copy = db.migrate(close_running=args.close_running)
    if copy is None:
        print(printable(f"{args.database} has the layout of this version already"))
    else:
        print(printable(f"{args.database} is migrated; the file as it was is kept as {copy}"))
    return 0
