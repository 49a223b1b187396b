"""On which of the host's CPUs a domain runs: all its threads on the same ones."""

import os
from pathlib import Path

from xenion.api.errors import ApiError

ALL = "all"


def parse(text: str) -> frozenset[int]:
    """Of "0-3,^1", or "all": those of xend's own. ApiError (bad-request): there are none, or it is no list."""
    have = frozenset(os.sched_getaffinity(0))
    wanted: set[int] = set()
    for part in (text.replace(" ", "") or ALL).split(","):
        word = part.removeprefix("^")
        cpus = have if word == ALL else _range(word, text)
        wanted = wanted - cpus if part.startswith("^") else wanted | cpus
    if not wanted & have:
        raise ApiError(
            "bad-request",
            f'cpus "{text}" has none of the host\'s CPUs, which are {shown(have)}: name some of them',
        )
    return frozenset(wanted & have)


def _range(word: str, text: str) -> frozenset[int]:
    first, dash, last = word.partition("-")
    numbers = [first, last] if dash else [first]
    if not all(number.isascii() and number.isdecimal() for number in numbers) or len(first) > 5:
        raise ApiError("bad-request", f'cpus "{text}" is no list of CPUs: write it as in "0-3,^1"')
    return frozenset(range(int(first), min(int(numbers[-1]), 1 << 16) + 1))


def shown(cpus: frozenset[int]) -> str:
    """As `parse` reads it."""
    parts: list[str] = []
    for cpu in sorted(cpus):
        if cpu - 1 in cpus:
            start = parts.pop().partition("-")[0]
            parts.append(f"{start}-{cpu}")
        else:
            parts.append(str(cpu))
    return ",".join(parts)


def pin(pid: int, cpus: frozenset[int], proc: Path = Path("/proc")) -> None:
    """All threads that there are; those to come have what their maker has. OSError."""
    for thread in (proc / str(pid) / "task").iterdir():
        try:
            os.sched_setaffinity(int(thread.name), cpus)
        except ProcessLookupError:
            continue
