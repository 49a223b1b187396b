"""Shares of the host's CPUs by the kernel's control groups: a group for each domain, of whichever version can be used.

Version 2: cpu.weight and cpu.max; version 1: cpu.shares and cpu.cfs_quota_us. A domain's whole process is in its group,
so what its back ends use is its own.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from xenion.config.domain import DEFAULT_WEIGHT

PERIOD_US, LONG_PERIOD_US, SMALL_CAP = 10_000, 100_000, 10
"""The kernel takes no quota below 1 ms, so a small cap has a longer period."""
OURS = "xenion"
_WEIGHTS_V1, _WEIGHTS_V2 = range(2, 262145), range(1, 10001)


@dataclass(frozen=True, slots=True)
class Groups:
    """`folder`: where domains have theirs; it is there while one has."""

    folder: Path
    version: int

    @property
    def name(self) -> str:
        return f"cgroup v{self.version}"

    def set(self, uuid: str, pid: int, weight: int, cap: int) -> None:
        """The domain's process has WEIGHT / DEFAULT_WEIGHT of an ordinary one's share, at most CAP percent of a CPU;
        0: no limit. OSError."""
        group = self.folder / uuid
        self.folder.mkdir(exist_ok=True)
        if self.version == 2:
            _delegate(self.folder.parent)
            _delegate(self.folder)
        group.mkdir(exist_ok=True)
        for name, value in self._values(weight, cap):
            (group / name).write_text(value)
        (group / "cgroup.procs").write_text(str(pid))

    def _values(self, weight: int, cap: int) -> list[tuple[str, str]]:
        period = LONG_PERIOD_US if 0 < cap < SMALL_CAP else PERIOD_US
        quota = cap * period // 100
        if self.version == 2:
            share = _within(100 * weight // DEFAULT_WEIGHT, _WEIGHTS_V2)
            return [("cpu.weight", str(share)), ("cpu.max", f"{quota or 'max'} {period}")]
        share = _within(1024 * weight // DEFAULT_WEIGHT, _WEIGHTS_V1)
        return [
            ("cpu.shares", str(share)),
            ("cpu.cfs_period_us", str(period)),
            ("cpu.cfs_quota_us", str(quota or -1)),
        ]

    def remove(self, uuid: str) -> None:
        """The domain has gone."""
        for folder in (self.folder / uuid, self.folder):
            with suppress(OSError):
                folder.rmdir()

    def sweep(self) -> None:
        """Groups in which nobody is any more."""
        with suppress(OSError):
            for group in list(self.folder.iterdir()):
                if group.is_dir():
                    self.remove(group.name)


def _within(value: int, allowed: range) -> int:
    return min(max(value, allowed[0]), allowed[-1])


def find(run_folder: Path, proc: Path) -> Groups | None:
    """Where xend may have groups of its own, if it may; each xend, by its run folder, has others. Makes none yet."""
    name = f"{OURS}-{crc32(str(run_folder).encode()):08x}"
    for groups in _candidates(proc):
        if os.access(groups.folder, os.W_OK):
            return Groups(groups.folder / name, groups.version)
    return None


def _candidates(proc: Path) -> list[Groups]:
    """Version 2 first; of version 1 xend's own group, of version 2 the root, which alone may hold processes beside
    groups."""
    mounts = [line.split() for line in (proc / "mounts").read_text().splitlines()]
    lines = [line.split(":", 2) for line in (proc / "cgroup").read_text().splitlines()]
    own = {controllers: path for _, controllers, path in lines}
    found = []
    for _, place, kind, options, *_ in mounts:
        root = Path(place)
        if kind == "cgroup2" and "cpu" in _controllers(root):
            found.append(Groups(root, 2))
        if kind == "cgroup" and "cpu" in options.split(","):
            path = next((path for names, path in own.items() if "cpu" in names.split(",")), "/")
            found.append(Groups(root / path.lstrip("/"), 1))
    return sorted(found, key=lambda groups: -groups.version)


def _controllers(root: Path) -> list[str]:
    try:
        return (root / "cgroup.controllers").read_text().split()
    except OSError:
        return []


def _delegate(group: Path) -> None:
    if "cpu" not in (group / "cgroup.subtree_control").read_text().split():
        (group / "cgroup.subtree_control").write_text("+cpu")
