"""The rows that are measured: their names, units and meaning, and how they are read from a console.

Every figure of the project is one of these rows. A row's meaning never changes: a new meaning is a new row.
"""

import math
import re
from dataclasses import dataclass

FIRST_LINE = b"BENCH "
DONE = "BENCH-DONE"
IDLE = b"BENCH-IDLE"


@dataclass(frozen=True)
class Row:
    """One figure; less is better in all of them."""

    name: str
    unit: str
    meaning: str


GUEST_ROWS = (
    Row("alu_200M", "s", "200 million additions to a variable in memory"),
    Row("syscall", "us", "one getppid, of 100,000"),
    Row("page_fault", "us", "the first touch of an anonymous page, of 4000"),
    Row("fork_exit_wait", "us", "fork, exit, wait, of 200"),
    Row("fork_exec_wait", "us", "fork, execute busybox, wait, of 50"),
    Row("memset_256M", "s", "16 times 16 MiB, first touch included"),
    Row("pipe_pingpong", "us", "a byte there and back between two processes, of 5000"),
)
BOOT_ROW = Row("kernel_to_init", "s", "the guest's own uptime when its init starts")
HOST_CLOCK_ROWS = (
    Row("exec_to_init", "s", "the host's clock from exec to the guest's first BENCH line"),
    Row("whole_run", "s", "the host's clock from exec to the end of the program"),
)
MEMORY_ROW = Row("pss_less_guest_mib", "MiB", "an idle domain process, its guest's memory not counted")
ROWS = (*GUEST_ROWS, BOOT_ROW, *HOST_CLOCK_ROWS, MEMORY_ROW)
BY_NAME = {row.name: row for row in ROWS}

# A console may put anything before a line (a hypervisor's prefix, a prompt), but the line ends with the unit.
_LINE = re.compile(r"BENCH (\w{1,40}) ([0-9.e+-]{1,24}) (\w{1,4})\s*$", re.MULTILINE | re.ASCII)


def parse(console: str) -> dict[str, float]:
    """The rows that a guest printed, by name, in their row's unit.

    The console is the guest's: unknown rows, wrong units and what is no finite number above zero are left
    out, and of a row that comes twice the first counts.
    """
    values: dict[str, float] = {}
    for name, text, unit in _LINE.findall(console):
        value = _number(text)
        if value is not None and _printed_by_guests(name, unit):
            values.setdefault(name, value)
    return values


def _printed_by_guests(name: str, unit: str) -> bool:
    return any((row.name, row.unit) == (name, unit) for row in (*GUEST_ROWS, BOOT_ROW))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None
