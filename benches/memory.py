"""How much memory an idle domain's process takes, its guest's own memory not counted.

The figure is the process's Pss (Linux's Documentation/filesystems/proc.rst) less that of its mappings of the
guest's memfd. The domain process is found by that memfd, so that nothing is assumed about who started it.
"""

import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from benches.assets import Assets
from benches.peers import GUEST_MIB, XENION, Run
from benches.record import Measured, Session
from benches.rows import IDLE, MEMORY_ROW
from benches.session import destroy
from benches.watch import Watched, save_log

# The guest's start-up work is over, and the process has given back what it gives back.
_SETTLE_S = 3.0
_KIB = 1024
_MAPPING = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S{4} [0-9a-f]+ [0-9a-f]+:[0-9a-f]+ (\d+)\s*(.*)")
_FIELD = re.compile(r"(Size|Pss):\s+(\d+) kB")


class ReadingError(Exception):
    """The domain process's memory cannot be told; the sentence says why."""


def measure(session: Session, assets: Assets, runs: int, limit: float) -> None:
    """Add `runs` readings, each of a new domain, to the session."""
    for number in range(runs):
        run = Run(assets, assets.work, f"memory-{XENION.name}-{number}", "idle")
        measured = _one(run, number, limit)
        session.runs.append(measured)
        print(
            f"{XENION.name} memory, run {number + 1} of {runs}: {measured.failure or 'done'}", file=sys.stderr
        )


def _one(run: Run, number: int, limit: float) -> Measured:
    others = frozenset(processes())
    values: dict[str, float] = {}
    with Watched(XENION.command(run), limit) as watched:
        try:
            if watched.wait_for(IDLE) is None:
                raise ReadingError(watched.failure or "the guest ended instead of idling")
            time.sleep(_SETTLE_S)
            values[MEMORY_ROW.name] = read_domain(set(processes()) - others, GUEST_MIB)
        except ReadingError as error:
            watched.failure = str(error)
    destroy(XENION, run)
    log = save_log(watched, run.folder / f"{run.name}.log")
    return Measured(XENION.name, number, values, watched.failure, str(log))


def read_domain(processes: Iterable[int], guest_mib: int) -> float:
    """MiB of the one process among `processes` that maps a guest's memory; ReadingError unless it is one."""
    found = {}
    for pid in processes:
        reading = read_process(pid, guest_mib)
        if reading is not None:
            found[pid] = reading
    if len(found) != 1:
        raise ReadingError(
            f"{len(found)} new processes map a memfd of {guest_mib} MiB instead of one: "
            "end other domains, or run as a user who may read the domain process's /proc/PID/smaps"
        )
    return found.popitem()[1]


def processes() -> Iterator[int]:
    """The ids of all there are."""
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal())


def read_process(pid: int, guest_mib: int) -> float | None:
    """MiB of a process beside its guest's memory; None if it maps none of this size, or has gone."""
    try:
        smaps = Path(f"/proc/{pid}/smaps").read_text(errors="replace")
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(errors="replace")
    except (PermissionError, FileNotFoundError, ProcessLookupError):
        return None
    guest = guest_pss(smaps, guest_mib)
    return None if guest is None else (_rollup_pss(rollup) - guest) / _KIB


def guest_pss(smaps: str, guest_mib: int) -> int | None:
    """KiB of Pss in the mappings of the guest's memfd: the largest one, if it could hold `guest_mib`."""
    size: dict[str, int] = defaultdict(int)
    pss: dict[str, int] = defaultdict(int)
    inode: str | None = None
    for line in smaps.splitlines():
        if mapping := _MAPPING.match(line):
            inode = mapping[1] if mapping[2].startswith("/memfd:") else None
        elif inode is not None and (field := _FIELD.match(line)):
            (size if field[1] == "Size" else pss)[inode] += int(field[2])
    guest = max(size, key=lambda each: size[each], default=None)
    if guest is None or size[guest] < guest_mib * _KIB:
        return None
    return pss[guest]


def _rollup_pss(rollup: str) -> int:
    for line in rollup.splitlines():
        if (field := _FIELD.match(line)) and field[1] == "Pss":
            return int(field[2])
    raise ReadingError("the kernel tells no Pss in smaps_rollup")
