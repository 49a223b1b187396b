"""What happens to a domain, in order and numbered, in a file that outlives its process: the truth about it.

A line is a JSON object: `n` from 1 on, `time` (seconds since the epoch), `kind`, and the kind's own fields:

    running    boot, cpu_base: the guest runs; CPU seconds of the thread that were not the guest's
    echo       number: that round of what comes from another host is here
    loaded     all of it is here, and waits for xend's word
    refused    text: it was never built
    paused, unpaused
    resized    vcpus, memory_mib, maxmem_mib: how many the guest was asked to have online; what it has and may have
    note       text: for people, and for the hypervisor's message ring
    log-full   the console's log has reached its limit
    detached   kind_of_device, devid: the guest has let go of it, and nothing holds it any more
    lost       kind_of_device, devid: what it has on the host has gone by itself
    ended      reason, action, report, core: the guest has stopped; the last two tell which spare files are in use
    preserved  the process goes on without a guest that runs
    leaving    the last entry: the process ends now

xend reads the file whenever the control link tells of a new entry, and when it finds the domain again.
"""

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

TEXT_CHARACTERS = 4000
"""Of an entry's text: each may become 12 bytes, and who reads the journal passes over very long lines."""
NOTES_BYTES = 1 << 20
"""Beyond this size of the file notes are left out; what the others tell is never."""


class Journal:
    """`fd` is open for appending. Any thread may add; `tell(n)` is called for each entry, on the adding thread."""

    def __init__(self, fd: int, tell: Callable[[int], None] = lambda n: None) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._size = os.fstat(fd).st_size
        self._left_out = 0
        self._unwritten = b""
        self.tell = tell
        self.n = 0

    def add(self, kind: str, **fields: Any) -> None:
        with self._lock:
            if kind == "note" and self._size > NOTES_BYTES:
                self._left_out += 1
                return
            if "text" in fields:
                fields["text"] = str(fields["text"])[:TEXT_CHARACTERS]
            if self._left_out and self._size <= NOTES_BYTES:
                self._write({"kind": "note", "text": f"{self._left_out} notes were left out"})
                self._left_out = 0
            self._write({"kind": kind, **fields})
            n = self.n
        self.tell(n)

    def _write(self, entry: dict[str, Any]) -> None:
        self.n += 1
        line = json.dumps({"n": self.n, "time": time.time(), **entry}).encode() + b"\n"
        self._size += len(line)
        self._unwritten += line
        with suppress(OSError):  # a full file system ends no guest: the next entry brings this one along
            while self._unwritten:
                self._unwritten = self._unwritten[os.write(self._fd, self._unwritten) :]

    def trim(self, through: int) -> bool:
        """Empties the file if entry `through`, which somebody has kept elsewhere, is the last one."""
        with self._lock:
            if through != self.n or self._unwritten:
                return False
            os.ftruncate(self._fd, 0)
            self._size = 0
            return True
