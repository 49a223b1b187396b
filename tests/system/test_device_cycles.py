"""Disks and interfaces that come and go, again and again: nothing of them stays."""

import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.system.disk_guest import DebianGuest, gone
from tests.system.images_on_host import MIB, qcow2, raw
from xenion.dom0.block.file import THREADS

if TYPE_CHECKING:
    from tests.system.disk_guest import Image
    from tests.system.xm import Xm
    from xenion.api.client import Client

GROWTH_BYTES = 32 * MIB
"""What a process's own memory may vary."""


@dataclass(frozen=True, slots=True)
class Belongings:
    """What there is of a guest and for it: a number each."""

    counts: dict[str, int]
    memory: dict[str, int]

    @classmethod
    def of(cls, guest: DebianGuest) -> "Belongings":
        xm = guest.xm
        pids = {"domain": guest.process.pid, "xend": xm.xend() or 0, "xenstored": xm.xenstored()}
        counts = {f"descriptors of {name}": _entries(f"/proc/{pid}/fd") for name, pid in pids.items()}
        counts["threads of domain"] = _entries(f"/proc/{pids['domain']}/task")
        counts["processes"] = len(xm.helpers())
        files = [path for folder in (xm.run_folder, xm.state) for path in folder.rglob("*")]
        counts["files"] = sum(not path.suffix[1:].isdecimal() for path in files)  # earlier logs are no leak
        if shutil.which("xenstore-ls") is not None:
            path = str(xm.run_folder / "xenion" / "xenstored" / "xenstored.sock")
            listed = subprocess.run(
                ["xenstore-ls", "-f"],
                env={**os.environ, "XENSTORED_PATH": path},
                check=True,
                capture_output=True,
            )
            counts["nodes of the store"] = listed.stdout.count(b"\n")
        status, said = guest.shell.run("ls /sys/bus/xen/devices /sys/block /sys/class/net | wc -l")
        assert status == 0
        counts["devices in the guest"] = int(said)
        return cls(counts, {name: _own_memory(pid) for name, pid in pids.items()})

    def compare(self, before: "Belongings", *, loaded_disks: int = 0) -> None:
        """The threads of a disk come when it is under load; so late, a helper of an earlier test may have ended."""
        expected = dict(before.counts)
        if loaded_disks:
            for name, more in (("threads of domain", loaded_disks * THREADS), ("processes", 0)):
                assert self.counts[name] <= expected[name] + more
                expected[name] = self.counts[name]
        assert self.counts == expected
        for name, size in self.memory.items():
            assert size - before.memory[name] < GROWTH_BYTES, (
                f"{name} has grown: {before.memory[name]} to {size}"
            )


def _entries(folder: str) -> int:
    return len(list(Path(folder).iterdir()))


def _own_memory(pid: int) -> int:
    """Bytes that only this process has, but for translated code, which has a limit of its own."""
    total, executable = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        word, rest = line.split()[:2]
        if not word.endswith(":"):
            executable = "x" in rest
        elif word == "Anonymous:" and not executable:
            total += int(rest) << 10
    return total


class Turns:
    """One device each, there and used and gone, straight through the API."""

    def __init__(self, guest: DebianGuest, api: "Client", folder: Path) -> None:
        self._guest, self._api = guest, api
        self._images = {"raw": raw(folder / "raw.img", MIB), "qcow2": qcow2(folder / "qcow2.img", MIB)}

    def all(self) -> list[Callable[[], None]]:
        disks = [partial(self.disk, kind) for kind in ("raw", "qcow2", "raw")]
        return [
            *disks,
            partial(self.vif, {"attachment": "isolated", "network": "cycles"}),
            partial(self.vif, {}),
        ]

    def disk(self, kind: str) -> None:
        disk = {"target": str(self._images[kind]), "vdev": "xvdb", "format": kind}
        self._api.call("attach_disk", {"disk": disk}, domain=self._guest.name)
        self._in_guest(
            "until [ -b /dev/xvdb ]; do :; done; dd if=/dev/xvdb of=/dev/null bs=64k count=2 iflag=direct"
        )
        self._api.call("detach_disk", domain=self._guest.name, vdev="xvdb")
        self._in_guest(gone("vbd-51728"))

    def vif(self, vif: dict[str, Any]) -> None:
        made = self._api.call("attach_interface", {"vif": vif}, domain=self._guest.name)
        link = self._guest.link(made["devid"])
        self._in_guest(f"until [ -d /sys/class/net/{link} ]; do :; done; ip link set {link} up")
        self._api.call("detach_interface", domain=self._guest.name, device=str(made["devid"]))
        self._in_guest(gone(f"vif-{made['devid']}"))

    def _in_guest(self, command: str) -> None:
        status, said = self._guest.shell.run(command)
        assert status == 0, said


def cycle(guest: DebianGuest, folder: Path, cycles: int) -> None:
    """Nothing stays: processes, descriptors, threads, memory, files, nodes of the store, devices in the guest."""
    with closing(guest.xm.api()) as api:
        turns = Turns(guest, api, folder).all()
        for number in range(max(cycles // 10, 10)):  # modules are loaded, caches filled
            turns[number % len(turns)]()
        before = Belongings.of(guest)
        for number in range(cycles):
            turns[number % len(turns)]()
        Belongings.of(guest).compare(before)


def test_nothing_stays_of_devices_that_came_and_went(debian: DebianGuest, tmp_path: Path) -> None:
    cycle(debian, tmp_path, 20)


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_nothing_stays_of_ten_thousand(xm: "Xm", debian_guest: "Image", tmp_path: Path) -> None:
    """The guest's own memory is another matter: Linux's netfront keeps some 1 MiB of each interface that it had."""
    guest = DebianGuest(xm, debian_guest, "cycled")
    guest.boot(memory=6144)
    cycle(guest, tmp_path, 10_000)
    guest.destroy()
