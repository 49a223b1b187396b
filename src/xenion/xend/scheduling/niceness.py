"""Shares of the host's CPUs without rights: nice values, of the domain's session where the kernel groups by sessions.

A weight of 256 is in the middle, so that it can rise without privilege: between sessions; a process's own nice value
never does.
"""

import errno
import math
import os
import time
from contextlib import suppress
from pathlib import Path

from xenion.config.domain import DEFAULT_WEIGHT

MIDDLE, LEAST = 10, 19
STEP = 1.25
"""What one nice value is worth."""
ENABLED = Path("/proc/sys/kernel/sched_autogroup_enabled")
TRIES, PAUSE_S = 5, 0.06
"""The kernel takes one change in a while from who has no rights."""


def nice_of(weight: int) -> int:
    """0 for the heaviest."""
    return min(max(round(MIDDLE - math.log(weight / DEFAULT_WEIGHT, STEP)), 0), LEAST)


def by_sessions() -> bool:
    """The kernel groups processes by sessions, so nice values between processes of two sessions do nothing."""
    try:
        return ENABLED.read_text().strip() == "1"
    except OSError:
        return False


def set_share(pid: int, weight: int, proc: Path = Path("/proc")) -> None:
    """Of a process that has a session of its own. It may take a while. OSError."""
    nice = nice_of(weight)
    if not by_sessions():
        for thread in (proc / str(pid) / "task").iterdir():
            with suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, int(thread.name), nice)
        return
    for attempt in range(TRIES):
        try:
            (proc / str(pid) / "autogroup").write_text(str(nice))
        except OSError as error:
            if error.errno != errno.EAGAIN or attempt == TRIES - 1:
                raise
            time.sleep(PAUSE_S)
        else:
            return
