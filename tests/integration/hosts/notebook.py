"""Plays a notebook: ``python notebook.py`` runs the cells of its input in a real Jupyter kernel.

The input is a JSON list of cells, each ``{"code": ..., "interrupt_at": ...}``: once a cell has
printed ``interrupt_at``, the kernel is interrupted, as by the stop button. The output is a JSON
list of what each cell printed and, at its end, returned or raised.
"""

import json
import sys
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

TIMEOUT = 60.0


def run_cell(manager: KernelManager, client: BlockingKernelClient, cell: dict[str, str]) -> str:
    """Run a cell to its end; what it shows."""
    shown: list[str] = []

    def show(message: dict[str, Any]) -> None:
        kind, content = message["msg_type"], message["content"]
        if kind == "stream":
            shown.append(content["text"])
        elif kind == "execute_result":
            shown.append(content["data"]["text/plain"])
        elif kind == "error":
            shown.append(f"{content['ename']}: {content['evalue']}")
        if kind == "stream" and cell.get("interrupt_at", "\0") in content["text"]:
            manager.interrupt_kernel()

    client.execute_interactive(cell["code"], output_hook=show, timeout=TIMEOUT)
    return "".join(shown).rstrip("\n")


def main() -> None:
    """Start a kernel, run the cells, end the kernel."""
    cells = json.load(sys.stdin)
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(extra_arguments=["--log-level=ERROR"])
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=TIMEOUT)
        shown = [run_cell(manager, client, cell) for cell in cells]
    finally:
        client.stop_channels()
        manager.shutdown_kernel()  # which ends the runs whose streams were left between two events
    json.dump(shown, sys.stdout)


if __name__ == "__main__":
    main()
