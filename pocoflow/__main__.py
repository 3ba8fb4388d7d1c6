"""``python -m pocoflow``: the same as the command ``pocoflow``."""

import sys

from pocoflow.cli import main

if __name__ == "__main__":
    sys.exit(main())
