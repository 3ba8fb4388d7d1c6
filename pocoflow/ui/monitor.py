"""The monitor in the browser: every run, live, and what to do about it.

Standalone, ``streamlit run pocoflow/ui/monitor.py -- pocoflow.db`` or ``pocoflow monitor``; in a
page of your own: :func:`render_workflow_monitor`.
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
    resumed, forked or cancelled. State and query parameters of the page have names that begin with
    ``key`` and a dot.

    Args:
        db_path: The database that flows write; it need not exist yet.
        flow: A flow that stores its runs in this database, to resume, fork and cancel them.
        key: Distinguishes several monitors on one page; derived from the path by default.
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
    # A separate fragment, so that a click in it does not rerun the host's page.
    st.fragment(_monitor, key=panel.name("monitor"))(panel)


def _monitor(panel: Panel) -> None:
    with st.container(
        horizontal=True,
        vertical_alignment="bottom",
        horizontal_alignment="distribute",
        key=panel.name("top"),
    ):
        # First of all, as the browser loads components in the order of the page.
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
    # All that is refreshed is one fragment: with nested fragments, Streamlit may send new elements
    # of one together with outdated elements of the other.
    st.fragment(_refreshed, run_every=_INTERVALS[interval])(panel)


def _refreshed(panel: Panel) -> None:
    with st.container():
        show_runs(panel)
    if panel.run_id is not None:
        with st.container():
            show_run(panel, panel.run_id)


# -- standalone -----------------------------------------------------------------------------------

_PAGE = Panel("", "")  # until the database is known; shows notices without a text below


def _main(arguments: list[str]) -> None:
    _disable_telemetry()
    st.set_page_config(page_title="pocoflow monitor", page_icon="🌀", layout="wide")
    host = st.context.headers.get("Host")
    if host is not None and not is_own(host, None, _server_names()):
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
    # those of the module of the flow.
    own_folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != own_folder]
    path, target, load = page_arguments(arguments)
    _render(Panel(path, "", _load(arguments, load) if target else None, target))


def _disable_telemetry() -> None:
    """Turn Streamlit's telemetry off, if this file was started without that setting."""
    if st.get_option("browser.gatherUsageStats"):
        config.set_option("browser.gatherUsageStats", False)
        # The first session has received the old setting: rerun it at once.
        st.rerun()


def _server_names() -> list[str]:
    """The names of this server other than local ones."""
    single = (st.get_option("server.address"), st.get_option("browser.serverAddress"))
    return [*filter(None, single), *st.get_option("server.allowedHosts")]


def _load(arguments: list[str], load: Callable[[], Flow]) -> Flow | None:
    """Load the flow of the command line once per process; show a notice if that fails."""

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
