"""`python -m benches.migrating [RUNS]`: how long `xm migrate --live` takes, and how long the guest stands still.

Two xends of the benchmark's own on this machine, with folders in build/migrating; beside them the same guest on QEMU's
emulation, from one QEMU to another by its own live migration. Exit status: as that of benches.many.
"""

import argparse
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benches.assets import Assets
from benches.own_xend import OwnXend, XendError, within
from benches.peers import INSTALL_QEMU, QEMU, hardware_missing

FOLDER = Path("build/migrating")
RUNS = 5
MEMORY_MIB = 512
GUESTS = {
    "idle": "an idle guest",
    "steady": "10 MiB/s of 64 MiB written",
    "fast": "128 MiB written over and over",
}
UP = b"MOVING-UP"
NAME = "moving"
PATIENCE_S = 120.0
HOPED_MS, MOST_BYTES_PER_S = 30, 1 << 34
"""QEMU is to hold its guest for no longer than we hope for, and may send as fast as it can."""


class Move(NamedTuple):
    """Seconds in all, seconds without the guest, MiB sent."""

    total: float
    downtime: float
    sent: float


Moves = Generator[Move, None, None]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Host(OwnXend):
    """One that takes domains at `address`."""

    def __init__(self, folder: Path) -> None:
        (folder / "run").mkdir(parents=True, mode=0o700)
        super().__init__(folder)
        self.environment["XDG_CONFIG_HOME"] = str(self.folder / "config")
        self.address = f"127.0.0.1:{free_port()}"
        settings = self.folder / "config" / "xenion" / "xend.toml"
        settings.parent.mkdir(parents=True)
        settings.write_text(f'[migration]\nlisten = "{self.address}"\nallow = ["127.0.0.1"]\n')
        self.xm("info")


class Migrating:
    def __init__(self, runs: int, assets: Assets) -> None:
        self.runs = runs
        self.hosts = Host(FOLDER / "here"), Host(FOLDER / "there")
        self._assets = assets
        more = {"name": NAME, "memory": MEMORY_MIB}
        self._config = self.hosts[0].config(assets, NAME, more)

    @contextmanager
    def domain(self, processor: str, what: str) -> Iterator[Moves]:
        """Moves there and back, one after the other. XendError."""
        here, there = self.hosts
        words = f"processor={processor}", f"extra=console=hvc0 quiet MOVE={what}"
        here.xm("create", "-q", self._config, *words)
        here.wait_up([NAME], UP)

        def moves() -> Moves:
            one, other = here, there
            while True:
                told = json.loads(one.xm("migrate", "--live", "--json", NAME, other.address))
                one, other = other, one
                yield Move(told["seconds"], told["downtime_s"], told["sent_bytes"] / (1 << 20))

        made = moves()
        yield made
        made.close()
        for host in self.hosts:
            if NAME in host.xm("list").decode():
                host.xm("destroy", NAME)

    @contextmanager
    def machine(self, what: str) -> Iterator[Moves]:
        """The same of QEMU. XendError."""
        ramdisk = self.hosts[0].folder / "initramfs.gz"
        alive: list[Qemu] = []

        def moves() -> Moves:
            alive.append(Qemu(self._assets.cloud_kernel, ramdisk, what, None))
            alive[0].wait_up()
            while True:
                alive.append(Qemu(self._assets.cloud_kernel, ramdisk, what, free_port()))
                yield alive[0].move(alive[1])
                alive.pop(0).end()

        made = moves()
        try:
            yield made
        finally:
            made.close()
            for qemu in alive:
                qemu.end()

    def clean(self) -> None:
        for host in self.hosts:
            host.clean()


class Qemu:
    """One that runs the guest, or waits for it at `port`."""

    def __init__(self, kernel: Path, ramdisk: Path, what: str, port: int | None) -> None:
        folder = (FOLDER / f"qemu-{time.monotonic_ns()}").resolve()
        folder.mkdir()
        self.port = port
        self._console, door = folder / "console", folder / "qmp"
        coming = () if port is None else ("-incoming", f"tcp:127.0.0.1:{port}")
        words = [
            QEMU, "-accel", "tcg", "-m", str(MEMORY_MIB), "-display", "none", "-no-reboot", "-nodefaults",
            "-serial", f"file:{self._console}", "-qmp", f"unix:{door},server=on,wait=off", "-kernel", str(kernel),
            "-initrd", str(ramdisk), "-append", f"console=ttyS0 quiet panic=-1 MOVE={what}", *coming,
        ]  # fmt: skip
        self._process = subprocess.Popen(words)
        deadline = time.monotonic() + PATIENCE_S
        while not door.exists():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise XendError("QEMU does not start")
            time.sleep(0.02)
        self._qmp = socket.socket(socket.AF_UNIX)
        self._qmp.connect(str(door))
        self._answers = self._qmp.makefile("rb")
        self._answers.readline()
        self.ask("qmp_capabilities")

    def ask(self, what: str, **words: Any) -> Any:
        """XendError."""
        self._qmp.sendall(json.dumps({"execute": what, "arguments": words}).encode())
        while line := self._answers.readline():
            answer = json.loads(line)
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise XendError(f"QEMU: {answer['error']['desc']}")
        raise XendError("QEMU has ended")

    def wait_up(self) -> None:
        """XendError."""
        deadline = time.monotonic() + PATIENCE_S
        while UP not in self._console.read_bytes():
            if time.monotonic() > deadline:
                raise XendError("the guest on QEMU does not come up")
            time.sleep(0.1)

    def move(self, other: "Qemu") -> Move:
        """XendError."""
        self.ask("migrate-set-parameters", **{"downtime-limit": HOPED_MS, "max-bandwidth": MOST_BYTES_PER_S})
        self.ask("migrate", uri=f"tcp:127.0.0.1:{other.port}")
        deadline = time.monotonic() + PATIENCE_S
        while (told := self.ask("query-migrate"))["status"] not in ("completed", "failed"):
            if time.monotonic() > deadline:
                self.ask("migrate_cancel")
                return Move(float("inf"), float("inf"), float("inf"))
            time.sleep(0.02)
        if told["status"] == "failed":
            raise XendError("QEMU's migration has failed")
        sent = told["ram"]["transferred"] / (1 << 20)
        return Move(told["total-time"] / 1000, told["downtime"] / 1000, sent)

    def end(self) -> None:
        self._answers.close()
        self._qmp.close()
        self._process.kill()
        self._process.wait()


def run(migrating: Migrating) -> None:
    """XendError."""
    peers: dict[str, Callable[[str], AbstractContextManager[Moves]]] = {
        "xenion": partial(migrating.domain, "software")
    }
    if why_not := hardware_missing():
        print(f"The hardware processor is left out: {why_not}", file=sys.stderr)
    else:
        peers["xenion on KVM"] = partial(migrating.domain, "hardware")
    if shutil.which(QEMU):
        peers["qemu"] = migrating.machine
    else:
        print(f"QEMU is left out: {INSTALL_QEMU}", file=sys.stderr)
    print(
        "| guest | who | total, s | downtime, ms: median (least to most) | sent, MiB |\n|---|---|---|---|---|"
    )
    for what, words in GUESTS.items():
        for who, peer in peers.items():
            with peer(what) as moves:
                found = [next(moves) for _ in range(migrating.runs)]
            print(f"| {words} | {who} | {_row(found)} |", flush=True)


def _row(found: Sequence[Move]) -> str:
    downs = sorted(1000 * move.downtime for move in found)
    total, sent = median(move.total for move in found), median(move.sent for move in found)
    return f"{total:.2f} | {median(downs):.0f} ({downs[0]:.0f} to {downs[-1]:.0f}) | {sent:.1f}"


def main(argv: Sequence[str]) -> int:
    p = argparse.ArgumentParser(prog="python -m benches.migrating", description=__doc__.splitlines()[0])
    p.add_argument("runs", type=int, nargs="?", default=RUNS, help="how often each is moved")
    p.add_argument("--files", type=Path, help="a folder with vmlinuz-cloud and busybox")
    args = p.parse_args(argv)
    return within("benches.migrating", FOLDER, lambda: Migrating(args.runs, Assets(FOLDER, args.files)), run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
