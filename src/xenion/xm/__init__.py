"""xm, the command line of Xenion."""

import signal
import sys

if sys.argv[0].rpartition("/")[2] == "xm" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(
        signal.SIGINT, signal.SIG_DFL
    )  # until `run` can tell it: a traceback would be all that is seen
