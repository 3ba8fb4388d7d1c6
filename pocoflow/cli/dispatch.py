"""``pocoflow dispatch``: send the ids of due runs to the workers of a cluster."""

from __future__ import annotations

import argparse
import importlib.util
import threading
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from pocoflow.cli.output import CommandError, printable
from pocoflow.cli.worker import add_arguments, flows_of, run_until_stopped, worker_of
from pocoflow.errors import PocoflowError, RunError
from pocoflow.flow.flow import Flow
from pocoflow.flow.worker import Limits, ways_out
from pocoflow.views.targets import add_database, database_words, load_flow, load_resources

if TYPE_CHECKING:
    from distributed import Client

    from pocoflow.db import Status


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``pocoflow dispatch``."""
    parser.add_argument("--dask", metavar="ADDRESS", required=True, help="tcp://host:8786")
    add_arguments(parser, 64, "concurrently submitted runs")
    parser.set_defaults(execute=dispatch)


def dispatch(args: argparse.Namespace) -> int:
    """Send the ids of the runs that are due to a cluster of Dask, whose workers carry on with them
    as 'pocoflow worker' does. Each needs the modules of the flows and their database; a run that is
    delivered twice, or late, is run once. A worker that is killed leaves its runs to the others.
    The first SIGTERM or Ctrl-C stops submitting, and waits for the active runs; a second one ends
    the process.
    """
    if importlib.util.find_spec("distributed") is None:
        raise CommandError("dispatch needs Dask: pip install 'pocoflow[dask]'", code=1)
    import distributed

    connect: Callable[[str], Client] = distributed.Client
    flows = flows_of(args)
    targets = {flow.flow_name: target for flow, target in zip(flows, args.flow, strict=True)}
    database = () if args.db is None else tuple(database_words(args.db))
    try:
        client = connect(args.dask)
    except (OSError, ValueError) as exc:
        raise CommandError(f"no scheduler of Dask at {printable(args.dask)}: {exc}") from exc
    is_lost = threading.Event()

    def deliver(flow: Flow, run_id: str) -> Status:
        """Have a worker of Dask carry on with a run, and wait for it."""
        settings = targets[flow.flow_name], run_id, database, args.resources, worker.limits
        try:
            error = client.submit(carry_on, *settings, pure=False).result()
        except Exception as exc:
            if client.status not in ("running", "connecting"):
                is_lost.set()
                worker.stop()
            raise RunError(f"the cluster has not carried on with it: {exc!r}") from exc
        if error:
            raise RunError(error)
        return flow.database.handle(run_id).status

    with client:
        worker = worker_of(args, flows, deliver=deliver)
        code = run_until_stopped(worker, "dispatcher", args)
        if is_lost.is_set():
            raise CommandError(f"the scheduler at {printable(args.dask)} is gone", code=1)
        return code


@cache
def _flow(target: str, database: tuple[str, ...]) -> Flow:
    flow = load_flow(target, alone=False)
    parser = argparse.ArgumentParser(add_help=False)
    add_database(parser, "")
    return flow.using(db_path=parser.parse_args(database).db)


def carry_on(
    target: str, run_id: str, database: tuple[str, ...], resources: str | None, limits: Limits
) -> str:
    """Carry on with a run, in a worker of a cluster; why it cannot be resumed, if so.

    Args:
        target: The target of the flow.
        run_id: The run.
        database: The options of the command line that name the database, if any: with a password,
            a variable in the environment of the worker.
        resources: The target of the resources, if any.
        limits: Limits on the active runs of all workers of the database together.
    """
    flow = None
    try:
        flow = _flow(target, database)
        objects = None if resources is None else load_resources(resources, alone=False)
        flow.carry_on(run_id, resources=objects, limits=limits)
    except PocoflowError as exc:
        hints = ways_out(exc, flow.database, run_id) if flow is not None else ""
        return f"{type(exc).__name__}: {exc}{hints}"
    except SystemExit:  # of a node: it ends the run, but must not end the worker
        pass
    return ""
