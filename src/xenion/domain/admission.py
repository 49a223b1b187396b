"""Does a domain of this size fit the host?"""

from pathlib import Path

MEMINFO = Path("/proc/meminfo")
HEADROOM_MIB = 64
"""What a domain process needs beside its guest's memory."""


class AdmissionError(Exception):
    """The host has not enough memory for the domain."""


def host_memory_mib(text: str) -> tuple[int, int]:
    """(total, available) of the host, from the text of /proc/meminfo."""
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    total, available = (int(fields[name].split()[0]) // 1024 for name in ("MemTotal", "MemAvailable"))
    return total, available


def check_memory(memory_mib: int) -> None:
    """AdmissionError, with the figures."""
    total, available = host_memory_mib(MEMINFO.read_text())
    if memory_mib + HEADROOM_MIB > available:
        raise AdmissionError(
            f"memory = {memory_mib} MiB does not fit: the host has {total} MiB of which {available} MiB are available "
            f"(a domain takes {HEADROOM_MIB} MiB beside its memory); lower memory or free some"
        )
