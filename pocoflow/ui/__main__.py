"""``python -m pocoflow.ui``: ``streamlit run`` of the monitor, loaded before its first visitor."""

import sys

from streamlit.web import cli

from pocoflow.ui import monitor

if __name__ == "__main__":
    sys.argv[:] = ["streamlit", "run", str(monitor.__file__), *sys.argv[1:]]
    sys.exit(cli.main())
