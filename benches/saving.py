"""`python -m benches.saving [RUNS]`: how long `xm save` and `xm restore` take, and how large the file is.

Everything is done by the real xm against a xend of its own, whose folders are in build/saving. The guests are idle, and
have a disk; so many MiB of their memory are full of random bytes. Exit status: as that of benches.many.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benches.assets import Assets
from benches.own_xend import OwnXend, within

FOLDER = Path("build/saving")
RUNS = 5
GUESTS = ((512, 0), (512, 256), (2048, 1024), (4096, 3500))
"""MiB of memory, and of that filled."""
UP = b"FILLED-UP"
DISK_BYTES = 1 << 30
NAME = "filled"


class Found(NamedTuple):
    """Seconds to save with the guest's help, as it stands, to restore, to make a checkpoint, and for which the guest is
    held then with what is on its disk and without; the file's bytes."""

    asked: float
    save: float
    restore: float
    checkpoint: float
    pause: float
    alone: float
    size: int


class Saving(OwnXend):
    def __init__(self, runs: int, assets: Assets, processor: str) -> None:
        super().__init__(FOLDER)
        self._runs = runs
        disk = self.folder / "disk.img"
        with disk.open("wb") as file:
            file.truncate(DISK_BYTES)
        more = {"name": NAME, "processor": processor, "disk": [f"{disk},raw,xvda,w"]}
        self._config = self.config(assets, NAME, more)

    def measure(self, memory_mib: int, filled_mib: int) -> Found:
        """Medians. XendError."""
        extra = f"extra=console=hvc0 quiet FILL_MIB={filled_mib}"
        self.xm("create", "-q", self._config, f"memory={memory_mib}", extra)
        self.wait_up([NAME], UP)
        file = self.folder / "file"
        asked: list[float] = []
        saves: list[float] = []
        restores: list[float] = []
        checkpoints: list[float] = []
        pauses: list[float] = []
        alone: list[float] = []
        for _ in range(self._runs):
            asked.append(self._timed("save", NAME, file))
            restores.append(self._timed("restore", file))
            began = time.monotonic()
            told = json.loads(self.xm("checkpoint", "--json", NAME, "bench"))
            checkpoints.append(time.monotonic() - began)
            pauses.append(told["held_s"])
            self.xm("checkpoint-delete", NAME, "bench")
            alone.append(json.loads(self.xm("save", "-c", "-s", "-m", "--json", NAME, file))["held_s"])
            saves.append(self._timed("save", "-s", NAME, file))
            restores.append(self._timed("restore", file))
        self.xm("destroy", NAME)
        return Found(
            median(asked), median(saves), median(restores), median(checkpoints), median(pauses), median(alone),
            file.stat().st_size,
        )  # fmt: skip

    def _timed(self, *words: str | Path) -> float:
        began = time.monotonic()
        self.xm(*words)
        return time.monotonic() - began


def run(saving: Saving) -> None:
    """XendError."""
    print(
        "| guest | save, s | save -s, s | restore, s | file, MiB | checkpoint, s | pause, ms | of memory alone, ms |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for memory, filled in GUESTS:
        it = saving.measure(memory, filled)
        what = f"{memory} MiB, {filled} of them filled"
        print(
            f"| {what} | {it.asked:.2f} | {it.save:.2f} | {it.restore:.2f} | {it.size / (1 << 20):.1f} "
            f"| {it.checkpoint:.2f} | {it.pause * 1000:.1f} | {it.alone * 1000:.1f} |",
            flush=True,
        )


def main(argv: Sequence[str]) -> int:
    p = argparse.ArgumentParser(prog="python -m benches.saving", description=__doc__.splitlines()[0])
    p.add_argument("runs", type=int, nargs="?", default=RUNS, help="how often each is done")
    p.add_argument("--files", type=Path, help="a folder with vmlinuz-cloud and busybox")
    p.add_argument("--processor", choices=("software", "hardware"), default="software", help="of the guests")
    args = p.parse_args(argv)

    def make() -> Saving:
        return Saving(args.runs, Assets(FOLDER, args.files), args.processor)

    return within("benches.saving", FOLDER, make, run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
