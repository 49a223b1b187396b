"""A xend of a benchmark's own, in a folder of build/, driven by the real xm."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from benches.assets import FETCH_ERRORS, Assets
from benches.peers import xm
from xenion.images import initramfs

LIMIT_S = 120.0


class XendError(Exception):
    """Something did not go well; the message says what."""


class Work(Protocol):
    def clean(self) -> None:
        """Nothing of it is left."""


def within(prog: str, folder: Path, work: "Callable[[], Work]", then: "Callable[[Any], None]") -> int:
    """Makes `work` in an empty `folder`, does `then` with it and cleans up. Exit status 1: something did not go
    well, which is said then."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "run").mkdir(parents=True, mode=0o700)
    try:
        made = work()
        try:
            then(made)
        finally:
            made.clean()
    except (XendError, *FETCH_ERRORS) as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


class OwnXend:
    """`folder` is there, and empty."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.environment = {
            **os.environ,
            "XDG_STATE_HOME": str(self.folder / "state"),
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
        }

    def xm(self, *words: str | Path) -> bytes:
        """What it writes. XendError."""
        done = subprocess.run(
            [xm(), *words], env=self.environment, capture_output=True, check=False, timeout=LIMIT_S
        )
        if done.returncode:
            raise XendError(f"xm {' '.join(map(str, words))}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout

    def config(self, assets: Assets, guest: str, more: Mapping[str, object]) -> Path:
        """A file for domains of the cloud kernel whose init is guest/GUEST."""
        ramdisk = self.folder / "initramfs.gz"
        init = Path(__file__).parent / "guest" / guest
        ramdisk.write_bytes(initramfs.build({"init": init, "bin/busybox": assets.busybox}))
        keys = {
            "kernel": str(assets.cloud_kernel),
            "ramdisk": str(ramdisk),
            "extra": "console=hvc0 quiet",
            **more,
        }
        path = self.folder / f"{guest}.cfg"
        path.write_text("".join(f"{key} = {value!r}\n" for key, value in keys.items()))
        return path

    def wait_up(self, names: Sequence[str], word: bytes) -> None:
        """Until all have said so. XendError."""
        logs = [self.folder / "state" / "xenion" / "domains" / name / "console.log" for name in names]
        deadline = time.monotonic() + LIMIT_S
        while not all(word in log.read_bytes() for log in logs):
            if time.monotonic() > deadline:
                raise XendError("not all guests have come up")
            time.sleep(0.1)

    def clean(self) -> None:
        """Ends all that is left, and the xend."""
        if (self.folder / "run" / "xenion" / "xend.sock").exists():
            for line in self.xm("list").decode().splitlines()[2:]:
                self.xm("destroy", line.split()[0])
            subprocess.run(
                [xm().with_name("xend"), "stop"], env=self.environment, check=False, timeout=LIMIT_S
            )
