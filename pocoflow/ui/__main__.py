"""``python -m pocoflow.ui PORT HOSTS DB [--flow TARGET]``: serve the monitor on this machine."""

import sys

import streamlit as st
from starlette.middleware import Middleware

from pocoflow.ui import monitor
from pocoflow.ui.guard import OwnHost

_SETTINGS = {
    "server.address": "127.0.0.1",
    "server.showEmailPrompt": False,
    "server.fileWatcherType": "none",
    "browser.gatherUsageStats": False,
    "client.toolbarMode": "viewer",
}


def _serve(port: int, hosts: list[str]) -> None:
    # monitor is imported here, so that it is loaded before its first visitor.
    guard = Middleware(OwnHost, port=port, others=hosts)
    app = st.App(str(monitor.__file__), middleware=[guard])
    names = {"server.allowedHosts": ["127.0.0.1", "localhost", "::1", *hosts]}
    app.run(config={**_SETTINGS, **names, "server.port": port})


if __name__ == "__main__":
    number, given, *sys.argv[1:] = sys.argv[1:]
    _serve(int(number), [host for host in given.split(",") if host])
