"""``pocoflow dispatch``: send the ids of due runs to the workers of a cluster."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from pocoflow.cli.output import CommandError, printable
from pocoflow.cli.worker import add_arguments, flows_of, limits_of, run_until_stopped
from pocoflow.errors import DefinitionError, PocoflowError, RunError
from pocoflow.flow.flow import Flow
from pocoflow.flow.worker import Limits, Worker, ways_out
from pocoflow.views.targets import add_database, database_words, load_flow, load_resources

if TYPE_CHECKING:
    from distributed import Client

    from pocoflow.db import Status


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``pocoflow dispatch``."""
    parser.description = (
        "Send the ids of the runs that are due to a cluster of Dask, whose workers carry on with "
        "them as 'pocoflow worker' does. Each needs the modules of the flows and their database; "
        "a run that is delivered twice, or late, is run once. A worker that is killed leaves its "
        "runs to the others. The first SIGTERM or Ctrl-C stops submitting, and waits for the "
        "active runs; a second one ends the process."
    )
    parser.add_argument("--dask", metavar="ADDRESS", required=True, help="tcp://host:8786")
    add_arguments(parser, 64, "concurrently submitted runs")
    parser.set_defaults(execute=dispatch)


def dispatch(args: argparse.Namespace) -> int:
    """Submit runs until stopped; 1 if runs were still active after the grace period."""
    if importlib.util.find_spec("distributed") is None:
        raise CommandError("dispatch needs Dask: pip install 'pocoflow[dask]'", code=1)
    import distributed

    connect: Callable[[str], Client] = distributed.Client
    flows, limits = flows_of(args), limits_of(args)
    targets = {flow.flow_name: target for flow, target in zip(flows, args.flow, strict=True)}
    try:
        client = connect(args.dask)
    except (OSError, ValueError) as exc:
        raise CommandError(f"no scheduler of Dask at {printable(args.dask)}: {exc}") from exc
    with client:
        database = () if args.db is None else tuple(database_words(args.db))
        dask = _Dask(client, targets, (database, args.resources, limits))
        try:
            worker = dask.worker = Worker(
                *flows, concurrency=args.concurrency, limits=limits, deliver=dask.deliver
            )
        except DefinitionError as exc:
            raise CommandError(str(exc)) from exc
        code = run_until_stopped(worker, "dispatcher", args)
        if dask.is_lost:
            raise CommandError(f"the scheduler at {printable(args.dask)} is gone", code=1)
        return code


class _Dask:
    """Has runs carried on by the workers of Dask."""

    worker: Worker

    def __init__(
        self,
        client: Client,
        targets: dict[str, str],
        settings: tuple[tuple[str, ...], str | None, Limits],
    ) -> None:
        self._client, self._targets, self._settings = client, targets, settings
        self.is_lost = False

    def deliver(self, flow: Flow, run_id: str) -> Status:
        """Have a worker carry on with a run, and wait for it; the status after that.

        Raises:
            RunError: It cannot be resumed, or the cluster has lost it.
        """
        client, target = self._client, self._targets[flow.flow_name]
        try:
            error = client.submit(carry_on, target, run_id, *self._settings, pure=False).result()
        except Exception as exc:
            if client.status not in ("running", "connecting"):
                self.is_lost = True
                self.worker.stop()
            raise RunError(f"the cluster has not carried on with it: {exc!r}") from exc
        if error:
            raise RunError(error)
        return flow.database.handle(run_id).status


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
