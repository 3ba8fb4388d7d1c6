"""How long the monitor takes to show 100,000 runs of 10 steps, beside an empty Streamlit page.

    python -m benchmarks.monitor --runs 100000 --rounds 7

Needs Chromium, Playwright and Streamlit; ``python -m benchmarks --only monitor`` brings the last
two in an environment of its own. Prints medians: of the first table after an address was entered,
of turning the page, and of what one refresh reads. The empty page is a line of text and a button in
a fragment.
"""

from __future__ import annotations

import argparse
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
from pocoflow.db.run_reports import flow_counts
from pocoflow.ui.pages_data import Filters, read_page

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


def fill(path: Path, runs: int) -> None:
    """Write the runs as finished flows leave them."""
    WorkflowDB(path).close()
    start = datetime(2026, 1, 1, tzinfo=UTC)
    statuses = ["completed"] * 9 + ["failed"]
    flows = ("article", "research", "triage", "summarise", "publish")
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA synchronous = OFF")
        raw.execute("BEGIN")
        raw.execute("INSERT INTO pf_graphs (graph) VALUES (?)", (json.dumps(graph()),))
        for number in range(1, runs + 1):
            began = start + timedelta(seconds=30 * number)
            flow = flows[number % 5]
            run_id = f"{flow}-{number:08x}"
            ended = (began + timedelta(seconds=STEPS)).isoformat()
            raw.execute(
                "INSERT INTO pf_run (run_no, run_id, flow_name, status, started_at, completed_at,"
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
                "INSERT INTO pf_log (id, kind, line, steps, step, at, node, action, elapsed,"
                " attempt, next_node) VALUES (?, ?, 0, ?, ?, ?, ?, ?, ?, 1, ?)",
                rows(number << 32, int(began.timestamp() * 1e6)),
            )
            raw.execute(
                "INSERT INTO pf_key (run_no, key_no, line, key) VALUES (?, 0, 0, 'text')", (number,)
            )
            raw.executemany(
                "INSERT INTO pf_value (run_no, key_no, step, op, value) VALUES (?, 0, ?, 0, ?)",
                [(number, step, json.dumps(f"text {step} " * 10)) for step in range(-1, STEPS)],
            )
        raw.execute("COMMIT")


def graph() -> dict[str, object]:
    nodes = {f"N{step}": {"class": "app:N", "code": ""} for step in range(STEPS)}
    edges = [[f"N{step}", "done", f"N{step + 1}"] for step in range(STEPS - 1)]
    return {"start": "N0", "nodes": nodes, "edges": edges, "schema": None}


def rows(stem: int, began: int) -> Iterator[tuple[object, ...]]:
    yield stem, 0, 0, -1, began, None, None, None, "N0"
    for step in range(STEPS):
        at = began + (step + 1) * 1_000_000
        successor = f"N{step + 1}" if step + 1 < STEPS else ""
        yield stem + 1 + step, 1, step + 1, step, at, f"N{step}", "done", 1_000_000, successor


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


def turns(browser: Browser, url: str, seen: str, rounds: int) -> list[float]:
    times = []
    for _ in range(rounds):
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


def measure(folder: Path, browser: Browser, runs: int, rounds: int) -> dict[str, float]:
    """Medians, in seconds, of our pages and of an empty one."""
    fill(folder / "runs.db", runs)
    (folder / "empty.py").write_text(EMPTY, encoding="utf-8")
    with WorkflowDB(folder / "runs.db", read_only=True) as db:
        now = datetime.now(UTC)
        refresh = timed(lambda: (flow_counts(db), read_page(db, Filters(), None, 50, now)))
        newest = db.list_runs(51)
    empty = ("streamlit", "run", "empty.py")
    monitor = ("pocoflow", "monitor", "runs.db", "--port", "PORT")
    with served(folder, *empty) as plain, served(folder, *monitor) as ours:
        ours += "?refresh=off"
        seen, older = str(newest[0]["run_id"]), str(newest[50]["run_id"])
        found = {
            "runs": float(runs),
            "file_mb": (folder / "runs.db").stat().st_size / 1e6,
            "refresh_ms": refresh * 1e3,
            "empty_cold_s": first_sight(browser, plain, "ready"),
            "cold_s": first_sight(browser, ours, seen),
        }
        first: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            first[0].append(first_sight(browser, plain, "ready"))
            first[1].append(first_sight(browser, ours, seen))
        found["empty_first_s"], found["first_s"] = map(statistics.median, first)
        found["empty_turn_s"] = statistics.median(turns(browser, plain, "turned", rounds))
        found["turn_s"] = statistics.median(turns(browser, ours, older, rounds))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast the monitor shows many runs.")
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print the numbers alone")
    options = parser.parse_args()
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        found = measure(Path(name), browser, options.runs, options.rounds)
        browser.close()
    if options.json:
        print(json.dumps(found))
        return
    print(f"{options.runs:,} runs of {STEPS} steps, {found['file_mb']:,.0f} MB")
    print(f"read by one refresh of the runs: {found['refresh_ms']:.1f} ms")
    titles = {"cold": "first visit of the server", "first": "first table", "turn": "turn the page"}
    for key, title in titles.items():
        took, base = found[f"{key}_s"], found[f"empty_{key}_s"]
        print(f"{title:28}{took:6.2f} s   empty page {base:5.2f} s   {took / base:.2f}x")


if __name__ == "__main__":
    main()
