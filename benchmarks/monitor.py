"""How long the monitor takes to show 100,000 runs of 10 steps, beside an empty Streamlit page.

    python benchmarks/monitor.py            # RUNS=100000 ROUNDS=7

Needs Chromium. Prints medians: of the first table after an address was entered, of turning the
page, and of what one refresh reads. The empty page is a line of text and a button in a fragment.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter

from playwright.sync_api import Browser, Page, sync_playwright

from pocoflow import WorkflowDB
from pocoflow.db.reports import flow_counts
from pocoflow.ui.data import Filters, read_page

RUNS = int(os.environ.get("RUNS", "100000"))
ROUNDS = int(os.environ.get("ROUNDS", "7"))
STEPS = 10

EMPTY = """
import streamlit as st

st.set_page_config(layout="wide")

@st.fragment
def page():
    if st.button("Older"):
        st.text("turned")
    st.text("ready")

page()
"""


def fill(path: Path) -> None:
    """Write the runs as finished flows leave them."""
    WorkflowDB(path).close()
    start = datetime(2026, 1, 1, tzinfo=UTC)
    statuses = ["completed"] * 9 + ["failed"]
    flows = ("article", "research", "triage", "summarise", "publish")
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA synchronous = OFF")
        raw.execute("BEGIN")
        raw.execute("INSERT INTO pf_graphs (graph) VALUES (?)", (json.dumps(graph()),))
        for number in range(1, RUNS + 1):
            began = start + timedelta(seconds=30 * number)
            flow = flows[number % 5]
            run_id = f"{flow}-{number:08x}"
            ended = (began + timedelta(seconds=STEPS)).isoformat()
            raw.execute(
                "INSERT INTO pf_runs (run_no, run_id, flow_name, status, started_at, completed_at,"
                " total_steps, current_node, graph_no) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1)",
                (
                    number,
                    run_id,
                    flow,
                    statuses[number % 10],
                    began.isoformat(),
                    ended,
                    STEPS,
                    "N9",
                ),
            )
            raw.executemany(
                "INSERT INTO pf_events (id, run_id, step, node_name, event, action, elapsed_ms, ts)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                events(number << 32, run_id, began),
            )
            steps = range(-1, STEPS)
            raw.executemany(
                "INSERT INTO pf_steps (run_no, step, node_name, created_at) VALUES (?, ?, ?, ?)",
                [(number, step, f"N{step}", ended) for step in steps],
            )
            raw.execute(
                "INSERT INTO pf_keys (run_no, key_no, key) VALUES (?, 0, 'text')", (number,)
            )
            raw.executemany(
                "INSERT INTO pf_values VALUES (?, 0, ?, 0, ?)",
                [(number, step, json.dumps(f"text {step} " * 10)) for step in steps],
            )
        raw.execute("COMMIT")


def graph() -> dict[str, object]:
    nodes = {f"N{step}": {"class": "app:N", "code": ""} for step in range(STEPS)}
    edges = [[f"N{step}", "done", f"N{step + 1}"] for step in range(STEPS - 1)]
    return {"start": "N0", "nodes": nodes, "edges": edges, "schema": None}


def events(stem: int, run_id: str, began: datetime) -> Iterator[tuple[object, ...]]:
    for step in range(STEPS):
        times = [(began + timedelta(seconds=step + end)).isoformat() for end in (0, 1)]
        first = stem + 2 * step + 1
        yield first, run_id, step, f"N{step}", "node_start", None, None, times[0]
        yield first + 1, run_id, step, f"N{step}", "node_end", "done", 1000.0, times[1]


@contextmanager
def served(folder: Path, *command: str) -> Iterator[str]:
    """The address of a Streamlit server with the settings of ``pocoflow monitor``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    settings = {
        "STREAMLIT_SERVER_HEADLESS": "true",
        "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
        "STREAMLIT_SERVER_FILE_WATCHER_TYPE": "none",
        "STREAMLIT_SERVER_ADDRESS": "127.0.0.1",
        "STREAMLIT_SERVER_PORT": port,
    }
    server = subprocess.Popen(
        [sys.executable, "-m", *(part.replace("PORT", port) for part in command)],
        cwd=folder,
        env={**os.environ, **settings},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/_stcore/health")
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.terminate()
        server.wait(60)


def wait_for(url: str) -> None:
    pause = threading.Event()
    for _ in range(600):
        try:
            with urllib.request.urlopen(url, timeout=10):
                return
        except (urllib.error.URLError, ConnectionError):
            pause.wait(0.1)
    raise RuntimeError(f"no server at {url}")


def first_sight(browser: Browser, url: str, seen: str) -> float:
    """Seconds from an address entered in a new profile to what is waited for."""
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(60_000)
    began = perf_counter()
    page.goto(url, wait_until="commit")
    page.get_by_text(seen, exact=True).first.wait_for()
    took = perf_counter() - began
    context.close()
    return took


def turn(page: Page, button: str, seen: str) -> float:
    """Seconds from a click to what it shows."""
    began = perf_counter()
    page.get_by_role("button", name=button, exact=True).click()
    page.get_by_text(seen, exact=True).first.wait_for()
    return perf_counter() - began


def turns(browser: Browser, url: str, seen: str) -> list[float]:
    times = []
    for _ in range(ROUNDS):
        context = browser.new_context()
        page = context.new_page()
        page.goto(url)
        page.get_by_role("button", name="Older", exact=True).wait_for()
        times.append(turn(page, "Older", seen))
        context.close()
    return times


def timed(what: Callable[[], object]) -> float:
    times = []
    for _ in range(50):
        began = perf_counter()
        what()
        times.append(perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        fill(folder / "runs.db")
        (folder / "empty.py").write_text(EMPTY, encoding="utf-8")
        size = (folder / "runs.db").stat().st_size / 1e6
        print(f"{RUNS:,} runs of {STEPS} steps, {size:,.0f} MB; medians of {ROUNDS}")
        with WorkflowDB(folder / "runs.db", read_only=True) as db:
            now = datetime.now(UTC)
            refresh = timed(lambda: (flow_counts(db), read_page(db, Filters(), None, 50, now)))
            newest = db.list_runs(51)
        print(f"read by one refresh of the runs: {refresh * 1000:.1f} ms")
        executable = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        empty = ("streamlit", "run", "empty.py")
        monitor = ("pocoflow", "monitor", "runs.db", "--port", "PORT")
        with served(folder, *empty) as plain, served(folder, *monitor) as ours:
            ours += "?refresh=off"
            seen = str(newest[0]["run_id"])
            pairs = [("first visit of the server", [0.0], [0.0])]
            pairs[0][1][0] = first_sight(browser, plain, "ready")
            pairs[0][2][0] = first_sight(browser, ours, seen)
            pairs.append(("first table", [], []))
            for _ in range(ROUNDS):
                pairs[1][1].append(first_sight(browser, plain, "ready"))
                pairs[1][2].append(first_sight(browser, ours, seen))
            older = str(newest[50]["run_id"])
            shown = turns(browser, plain, "turned"), turns(browser, ours, older)
            pairs.append(("turn the page", *shown))
        browser.close()
        for label, before, after in pairs:
            base, took = statistics.median(before), statistics.median(after)
            print(f"{label:28}{took:6.2f} s   empty page {base:5.2f} s   {took / base:.2f}x")


if __name__ == "__main__":
    main()
