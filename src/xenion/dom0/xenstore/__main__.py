"""`python -m xenion.dom0.xenstore --folder RUN`: the daemon xenstored.

Exit status: 0 told to stop, 1 it cannot serve, and says why, 2 wrong usage.
"""

import argparse
import sys
from pathlib import Path

from xenion.dom0.xenstore.daemon import serve


def main(arguments: list[str] | None = None) -> int:
    """Serve."""
    parser = argparse.ArgumentParser(prog="python -m xenion.dom0.xenstore", description="xenstored")
    parser.add_argument("--folder", type=Path, required=True, help="where it listens and keeps the store")
    parser.add_argument("--ready-fd", type=int, help="gets a line when it serves")
    parser.add_argument(
        "--idle", type=float, metavar="SECONDS", help="end when nobody has been connected for so long"
    )
    options = parser.parse_args(arguments)
    return serve(options.folder, options.ready_fd, options.idle)


if __name__ == "__main__":
    sys.exit(main())
