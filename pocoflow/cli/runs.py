"""``pocoflow runs list``, ``show`` and ``cancel``: what is in a database, and how to stop it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from pocoflow import codec
from pocoflow.cli.asked import history
from pocoflow.cli.database import add_database, find_run, open_database
from pocoflow.cli.output import (
    CommandError,
    duration,
    moment,
    one_line,
    parse_time,
    printable,
    table,
)
from pocoflow.db import STATUSES, WorkflowDB
from pocoflow.db.reports import waiting
from pocoflow.errors import DecodeError

__all__ = ["register"]

_WIDTH = 100
_VALUE = 200


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``pocoflow runs``."""
    parser.description = "Look at the runs in a database, or ask one to stop."
    parts = parser.add_subparsers(metavar="list|show|cancel", required=True, dest="part")

    listing = parts.add_parser(
        "list", help="the newest runs", description="List runs, the newest first."
    )
    listing.add_argument(
        "--limit", metavar="N", type=_count, default=20, help="at most N runs (20)"
    )
    listing.add_argument(
        "--status",
        metavar="S",
        choices=STATUSES,
        help=f"only runs of this status: {', '.join(STATUSES)}",
    )
    listing.add_argument("--flow", metavar="F", help="only runs of this flow")
    listing.set_defaults(execute=list_runs)

    showing = parts.add_parser(
        "show",
        help="one run: its events, questions, errors and last store",
        description="Show one run: its row, its events with their times, the attempts, what it "
        "asked and was answered, errors with traceback, and the store after its last finished "
        "step.",
    )
    showing.add_argument("run_id", metavar="RUN_ID", help="the run's id, as 'runs list' shows it")
    showing.set_defaults(execute=show_run)

    cancelling = parts.add_parser(
        "cancel",
        help="ask a run to stop",
        description="Ask a run, in whatever process it is, to stop after the step that it is at; "
        "one that is paused is cancelled at once. It can be resumed.",
    )
    cancelling.add_argument("run_id", metavar="RUN_ID", help="the run's id")
    cancelling.set_defaults(execute=cancel_run)

    for part in (listing, showing, cancelling):
        add_database(part)


def _count(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return number


# -- cancel ---------------------------------------------------------------------------------------


def cancel_run(args: argparse.Namespace) -> int:
    """Ask a run to stop, or cancel one that is paused; 1 if it is neither running nor paused."""
    with open_database(args.db) as db:
        run = find_run(db, args.run_id)
    if run["status"] not in ("running", "paused"):
        raise CommandError(f"run {args.run_id!r} is {run['status']}, not running", code=1)
    with open_database(args.db, read_only=False) as db:
        asked = db.request_cancel(args.run_id)
    done = "is cancelled" if run["status"] == "paused" else "was asked to stop after its step"
    told = done if asked else "has just gone on" if run["status"] == "paused" else "has just ended"
    print(f"run {printable(args.run_id)} {told}")
    return 0


# -- list -----------------------------------------------------------------------------------------


def list_runs(args: argparse.Namespace) -> int:
    """Print the newest runs as a table."""
    with open_database(args.db) as db:
        runs = db.list_runs(args.limit + 1, status=args.status, flow_name=args.flow)
        is_paused = any(run["status"] == "paused" for run in runs)
        questions = waiting(db) if is_paused else {}
    if not runs:
        kind = f"{args.status} runs" if args.status else "runs"
        flow = f" of flow {printable(args.flow)}" if args.flow is not None else ""
        print(f"no {kind}{flow} in {printable(args.db)}")
        return 0
    head = ("RUN", "STATUS", "STARTED (UTC)", "TIME", "STEPS", "NODE")
    rows = [_listed(run, questions.get(run["run_id"], 0)) for run in runs[: args.limit]]
    print(*table([head, *rows], right=(3, 4)), sep="\n")
    if len(runs) > args.limit:
        print(f"... and older ones: --limit N shows more than {args.limit}")
    return 0


def _listed(run: Mapping[str, Any], questions: int) -> tuple[str, ...]:
    started = parse_time(run["started_at"])
    note = one_line(run["current_node"] or "", 40)
    if run["error_msg"]:
        note = f"{note}: {one_line(_error(run), 60)}" if note else one_line(_error(run), 60)
    if run["status"] == "paused":
        waits = f"waits for {questions} answer{'' if questions == 1 else 's'}"
        note = f"{note}: {waits if questions else 'can go on'}"
    return (
        printable(run["run_id"]),
        run["status"],
        moment(started),
        duration(_seconds(run)),
        str(run["total_steps"]),
        note,
    )


def _seconds(run: Mapping[str, Any]) -> float | None:
    """How long a run took, or has taken if it still runs."""
    started, ended = parse_time(run["started_at"]), parse_time(run["completed_at"])
    if ended is None and run["status"] == "running":
        ended = datetime.now(UTC)
    if started is None or ended is None or run["status"] == "queued":
        return None
    return (ended - started).total_seconds()


def _error(row: Mapping[str, Any]) -> str:
    kind, message = row["error_type"], row["error_msg"] or ""
    return f"{kind}: {message}" if kind and kind not in ("Interrupted", message) else message


# -- show -----------------------------------------------------------------------------------------


def show_run(args: argparse.Namespace) -> int:
    """Print one run: its row, events, errors and last store."""
    with open_database(args.db) as db:
        run = find_run(db, args.run_id)
        events = db.get_events(args.run_id)
        questions = db.get_questions(args.run_id)
        print(*_row(run), sep="\n")
        print("\nevents", *_timeline(events), sep="\n")
        if questions:
            print("\nquestions", *history(questions), sep="\n")
        for event in events:
            if event["traceback"] and event["event"] != "flow_error":
                print(f"\n{_title(event)}", *_indented(event["traceback"]), sep="\n")
        if run["traceback"] and not any(e["event"] == "node_error" for e in events):
            print("\nerror", *_indented(run["traceback"]), sep="\n")
        print("", *_last_store(db, args.run_id), sep="\n")
    return 0


def _row(run: Mapping[str, Any]) -> Iterator[str]:
    facts = {
        "run": run["run_id"],
        "flow": run["flow_name"],
        "status": run["status"],
        "started": _utc(run["started_at"]),
        "ended": _utc(run["completed_at"]),
        "time": duration(_seconds(run)),
        "steps": str(run["total_steps"]),
        "node": run["current_node"],
        "error": _error(run),
        "forked": f"from step {run['parent_step']} of {run['parent_run_id']}"
        if run["parent_run_id"]
        else "",
    }
    for name, value in facts.items():
        if value:
            yield f"{name:<9}{printable(value)}"


def _utc(text: object) -> str:
    time = moment(parse_time(text))
    return f"{time} UTC" if time else ""


def _timeline(events: list[dict[str, Any]]) -> list[str]:
    first = parse_time(events[0]["ts"]) if events else None
    rows = []
    for event in events:
        time = parse_time(event["ts"])
        after = "" if time is None or first is None else f"{(time - first).total_seconds():.3f} s"
        step = event["step"]
        about_node = event["node_name"] is not None
        rows.append(
            (
                "",
                after,
                printable(event["event"]),
                f"step {step}" if about_node and step is not None else "",
                one_line(event["node_name"] or "", 40),
                _what(event),
                duration(None if event["elapsed_ms"] is None else event["elapsed_ms"] / 1000),
            )
        )
    return table(rows, right=(1, 6))


def _what(event: Mapping[str, Any]) -> str:
    parts = []
    if event["action"] is not None:
        parts.append(f"-> {event['action']}")
    attempts = event["attempt"]
    if event["event"] in ("node_retry", "node_error"):
        parts.append(f"attempt {attempts} failed" if attempts else "failed")
    elif attempts is not None and attempts > 1:
        parts.append(f"{attempts} attempts")
    if event["error_msg"]:
        parts.append(_error(event))
    return one_line(", ".join(parts), _WIDTH)


def _title(event: Mapping[str, Any]) -> str:
    attempt = f", attempt {event['attempt']}" if event["attempt"] else ""
    node = one_line(event["node_name"] or "", 40)
    return f"{printable(event['event'])} in step {event['step']}, {node}{attempt}"


def _indented(text: str) -> list[str]:
    return [f"    {printable(line)}".rstrip() for line in text.rstrip("\n").split("\n")]


def _last_store(db: WorkflowDB, run_id: str) -> Iterator[str]:
    checkpoints = db.get_checkpoints(run_id)
    if checkpoints:
        last = checkpoints[-1]
        yield f"store after step {last['step']}, {one_line(last['node_name'], 40)}"
        stored = json.loads(last["store_json"])
    else:
        yield "store before the first step"
        try:
            stored = codec.encode(db.load_checkpoint(run_id, -1).as_dict())
        except (KeyError, DecodeError) as exc:
            yield f"  cannot be shown: {printable(str(exc))}"
            return
    rows = [("", one_line(key, 40), _shown(value)) for key, value in stored.items()]
    yield from table(rows) or ["  (empty)"]


def _shown(value: Any) -> str:
    """A stored value in its JSON form, cut if it is long."""
    if isinstance(value, dict) and value.get("$type") == "not saved":
        return one_line(f"(not saved: {value['value'][1]})", _VALUE)
    text = json.dumps(value, ensure_ascii=False)
    cut = f" ... ({len(text):,} characters)" if len(text) > _VALUE else ""
    return printable(text[:_VALUE]) + cut
