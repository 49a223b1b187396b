"""The host as Domain 0: its memory and processors, and what of them domains may take."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from xenion.api.errors import ApiError
from xenion.config.domain import DomainConfig
from xenion.xend.scheduling import affinity

MEMINFO = Path("/proc/meminfo")
HEADROOM_MIB = 64
"""What a domain process needs beside its guest's memory."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Of the host, in MiB; `available` is what programs could take now."""

    total: int
    available: int


def memory() -> Memory:
    return memory_of(MEMINFO.read_text())


def memory_of(text: str) -> Memory:
    """From the text of /proc/meminfo."""
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    total, available = (int(fields[name].split()[0]) // 1024 for name in ("MemTotal", "MemAvailable"))
    return Memory(total, available)


def resident_mib(pid: int | None) -> int:
    """What a process has taken already; 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGESIZE") // (1 << 20)


def free_mib(promised: list[tuple[int, int | None]]) -> int:
    """What a new domain may take, its headroom not counted.

    `promised`: of each domain its memory in MiB and its process: what it has not touched yet is not free.
    """
    untouched = sum(max(mib + HEADROOM_MIB - resident_mib(pid), 0) for mib, pid in promised)
    return max(memory().available - untouched - HEADROOM_MIB, 0)


def admit(config: DomainConfig, promised: list[tuple[int, int | None]], *, has: int = 0) -> None:
    """Whether there are the memory and the CPUs for it. ApiError (does-not-fit), with the figures, or (bad-request).

    `has`: what memory the domain was promised already.
    """
    affinity.parse(config.cpus)
    most = config.most_memory_mib
    free = free_mib(promised) if most > has else 0
    if most > has + free:
        total, key = memory().total, "maxmem" if most > config.memory_mib else "memory"
        raise ApiError(
            "does-not-fit",
            f"{key} = {most} MiB does not fit: the host has {total} MiB of which {has + free} MiB are free for "
            f"this domain (each takes {HEADROOM_MIB} MiB beside its memory); lower {key} or free some",
        )


def now() -> float:
    """Seconds since the epoch."""
    return time.time()


def busy_seconds() -> float:
    """CPU time of everything on the host."""
    return _busy("cpu")


def cpu_busy_seconds(number: int) -> float:
    """CPU time of everything on one processor; 0 for one that is not online."""
    return _busy(f"cpu{number}")


def _busy(name: str) -> float:
    for line in Path("/proc/stat").read_text().splitlines():
        if line.split(" ", 1)[0] == name:
            user, nice, system, _idle, _iowait, irq, softirq = (int(field) for field in line.split()[1:8])
            return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
    return 0.0


def boot_id() -> str:
    """Another one after each start of the host."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def boot_time() -> float:
    """Seconds since the epoch."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0


def cpu() -> tuple[str, float | None]:
    """Model name and MHz of the first processor."""
    fields: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0].splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    mhz = fields.get("cpu MHz", "")
    return fields.get("model name", "unknown"), float(mhz) if mhz.replace(".", "", 1).isdecimal() else None


@dataclass(frozen=True, slots=True)
class ThreadTimes:
    """`running`: on a processor or waiting for one; `cpu`: the one it ran on last."""

    cpu_seconds: float
    running: bool
    cpu: int | None


def main_thread(pid: int | None) -> ThreadTimes:
    """Of a domain process: its vCPU's. Nothing is known of one that is gone."""
    try:
        ran = int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0])
        fields = Path(f"/proc/{pid}/task/{pid}/stat").read_text().rpartition(")")[2].split()
        return ThreadTimes(ran / 1e9, fields[0] == "R", int(fields[36]))
    except (OSError, ValueError, IndexError):
        return ThreadTimes(0.0, False, None)
