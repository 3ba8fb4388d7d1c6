"""The monitor in the browser: every run, live, and what to do about it.

Standalone, ``streamlit run pocoflow/ui/monitor.py -- pocoflow.db`` or ``pocoflow monitor``; in a
page of your own, :func:`render_workflow_monitor`.
"""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Callable

import streamlit as st
from streamlit import config

from pocoflow.db.postgres import is_server, refuse_other_names, without_password
from pocoflow.flow.flow import Flow
from pocoflow.ui.guard import is_own
from pocoflow.ui.panel import Panel
from pocoflow.ui.runlist import show_runs
from pocoflow.ui.runview import show_export, show_run
from pocoflow.ui.tables import database_facts
from pocoflow.views.targets import TargetError, page_arguments

__all__ = ["render_workflow_monitor"]

_INTERVALS = {"off": None, "1 s": 1.0, "2 s": 2.0, "5 s": 5.0, "10 s": 10.0, "30 s": 30.0}


def render_workflow_monitor(
    db_path: str | os.PathLike[str] = "pocoflow.db",
    *,
    flow: Flow | None = None,
    key: str | None = None,
    answers: bool = True,
) -> None:
    """Show the runs of a database in a Streamlit page.

    The file is only read, unless a question is answered, or a flow is given and one of its runs is
    acted on. State and query parameters of the page are used under names that begin with ``key``
    and a dot.

    Args:
        db_path: The database that flows write; it need not be there yet.
        flow: A flow that keeps its runs in this database, to resume, fork and cancel them.
        key: Tells several monitors of one page apart; made from the path by default.
        answers: Whether questions that runs ask can be answered here.
    """
    refuse_other_names(db_path)
    path = os.fspath(db_path)
    if is_server(path):
        path = without_password(path)
    if key is None:
        key = f"monitor-{zlib.crc32(path.encode()):08x}"
    _render(Panel(path, key, flow, answers=answers))


def _render(panel: Panel) -> None:
    # A fragment of its own: what is clicked in here does not run the host's page again.
    st.fragment(_monitor, key=panel.name("monitor"))(panel)


def _monitor(panel: Panel) -> None:
    with st.container(
        horizontal=True,
        vertical_alignment="bottom",
        horizontal_alignment="distribute",
        key=panel.name("top"),
    ):
        # First of all, as the browser loads what it is shown with in the order of the page.
        panel.show("database", database_facts(panel.path))
        interval = st.selectbox(
            "Auto-refresh",
            list(_INTERVALS),
            index=2,
            key=panel.name("refresh"),
            bind="query-params",
            width=120,
        )
        if panel.run_id is not None:
            show_export(panel, panel.run_id)
    # All that is refreshed is one fragment: of one within another Streamlit may send the browser
    # what is new, and of the other, at whose places it is put, what was there before.
    st.fragment(_refreshed, run_every=_INTERVALS[interval])(panel)


def _refreshed(panel: Panel) -> None:
    with st.container():
        show_runs(panel)
    if panel.run_id is not None:
        with st.container():
            show_run(panel, panel.run_id)


# -- standalone -----------------------------------------------------------------------------------

_PAGE = Panel("", "")  # before it is known what is looked at; Streamlit would show a text below


def _main(arguments: list[str]) -> None:
    _keep_to_ourselves()
    st.set_page_config(page_title="pocoflow monitor", page_icon="🌀", layout="wide")
    host = st.context.headers.get("Host")
    if host is not None and not is_own(host, None, _names()):
        _PAGE.notice(
            "host-error",
            f"The address of this page has a name that is not the monitor's ({host!r}): if it is "
            "yours, add it with --allow-host to pocoflow monitor, or to server.allowedHosts of "
            "Streamlit.",
            title="Not shown here",
            tone="red",
        )
        return
    # Streamlit puts the folder of its script first, where the modules of this package would hide
    # those of whoever gives a flow.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != here]
    path, target, load = page_arguments(arguments)
    _render(Panel(path, "", _load(arguments, load) if target else None, target))


def _keep_to_ourselves() -> None:
    """Turn Streamlit's telemetry off, for who starts this file without that setting."""
    if st.get_option("browser.gatherUsageStats"):
        config.set_option("browser.gatherUsageStats", False)
        # The session that is the first has been told that it is on: tell it otherwise at once.
        st.rerun()


def _names() -> list[str]:
    """The names that this server is known by beside those of every machine for itself."""
    single = (st.get_option("server.address"), st.get_option("browser.serverAddress"))
    return [*filter(None, single), *st.get_option("server.allowedHosts")]


def _load(arguments: list[str], load: Callable[[], Flow]) -> Flow | None:
    """Load the flow of the command line once for this process; say so if it cannot be."""

    @st.cache_resource(show_spinner=False)
    def load_once(arguments: list[str]) -> Flow:
        return load()

    try:
        return load_once(arguments)
    except TargetError as exc:
        _PAGE.notice("flow-error", str(exc), title="The flow cannot be used", tone="red")
        return None


if __name__ == "__main__":
    _main(sys.argv[1:])
