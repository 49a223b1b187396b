"""The domain process: one a domain. Gets its descriptors, builds the machine, drops its rights, runs the guest.

Usage (by xend only): python -m xenion.domain ORDER_FD, which holds what xenion.domain.order describes.
"""

import os
import signal
import sys

from xenion.domain.order import Order
from xenion.domain.process import EXIT_BUG, DomainProcess


def _ignore_terminal() -> None:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)


def main(argv: list[str]) -> int:
    _ignore_terminal()
    with os.fdopen(int(argv[1]), "rb") as file:
        order = Order.read(file)
    return DomainProcess(order).serve()


def run(argv: list[str]) -> None:
    """Ends the process without waiting for what its threads may still do."""
    try:
        status = main(argv)
    except Exception:  # noqa: BLE001  the last line of defence: a bug of ours goes to the process's log
        import traceback

        traceback.print_exc()
        status = EXIT_BUG
    sys.stderr.flush()
    os._exit(status)
