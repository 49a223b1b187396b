"""The end of an xm that stumbles over a bug: a sentence for the user, and a file for who mends it."""

import sys
import time

from xenion.api.errors import UnreachableError
from xenion.api.folders import folders
from xenion.xm.output import complain

LOG = "xm-bugs.log"


def tell_of(error: Exception) -> None:
    """Where it happened goes to LOG in xend's state folder, if that can be written."""
    import traceback

    head = f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {' '.join(sys.argv)}\n"
    try:
        path = folders().state / LOG
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(head + "".join(traceback.format_exception(error)))
        told = f"{path} tells where; please report it"
    except (OSError, UnreachableError) as why:
        told = f"where cannot be written down ({why})"
    complain(f"a bug of xm's, or what answered is no xend ({type(error).__name__}: {error}): {told}")
