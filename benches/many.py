"""`python -m benches.many [N]`: N small domains created, listed, spoken to at their consoles, measured and destroyed.

Everything is done by the real xm against a xend of its own, whose folders are in build/many.
Exit status: 0 all went well, 1 something did not, 2 wrong usage, 130 interrupted.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benches import memory
from benches.assets import FETCH_ERRORS, Assets
from benches.peers import xm
from xenion.images import initramfs

FOLDER = Path("build/many")
DOMAINS, GUEST_MIB, LISTINGS = 50, 96, 20
UP, ANSWER = b"MANY-UP", b"MANY-ANSWER"
LIMIT_S = 120.0


class ManyError(Exception):
    """Something did not go well; the message says what."""


@dataclass
class Figures:
    """Seconds, and MiB beside the guests' memory."""

    create: list[float] = field(default_factory=list)
    console: list[float] = field(default_factory=list)
    listing: list[float] = field(default_factory=list)
    destroy: list[float] = field(default_factory=list)
    memory_alone: float = 0.0
    memory: list[float] = field(default_factory=list)

    def table(self) -> str:
        rows = [
            ("xm create", self.create, "s"),
            ("xm console: a line typed and answered", self.console, "s"),
            ("xm list with all of them", self.listing, "s"),
            ("xm destroy", self.destroy, "s"),
            ("memory of a domain's process, alone", [self.memory_alone], "MiB"),
            ("memory of a domain's process, all there", self.memory, "MiB"),
        ]
        lines = ["| what | median | slowest or largest |", "|---|---|---|"]
        for what, values, unit in rows:
            lines.append(f"| {what} | {statistics.median(values):.3g} {unit} | {max(values):.3g} {unit} |")
        return "\n".join(lines)


class Many:
    def __init__(self, count: int, assets: Assets) -> None:
        self._count = count
        self._folder = FOLDER.resolve()
        self._environment = {
            **os.environ,
            "XDG_STATE_HOME": str(self._folder / "state"),
            "XDG_RUNTIME_DIR": str(self._folder / "run"),
        }
        ramdisk = self._folder / "initramfs.gz"
        guest = Path(__file__).parent / "guest" / "many"
        ramdisk.write_bytes(initramfs.build({"init": guest, "bin/busybox": assets.busybox}))
        self._config = self._folder / "many.cfg"
        keys = {"kernel": assets.cloud_kernel, "ramdisk": ramdisk, "extra": "console=hvc0 quiet"}
        text = "".join(f"{key} = {str(value)!r}\n" for key, value in keys.items())
        self._config.write_text(f"{text}memory = {GUEST_MIB}\n")
        self.figures = Figures()

    def _xm(self, *words: str | Path, given: bytes = b"") -> bytes:
        done = subprocess.run(
            [xm(), *words],
            env=self._environment,
            input=given,
            capture_output=True,
            check=False,
            timeout=LIMIT_S,
        )
        if done.returncode:
            raise ManyError(f"xm {' '.join(map(str, words))}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout

    def _timed(self, into: list[float], *words: str | Path) -> bytes:
        started = time.monotonic()
        out = self._xm(*words)
        into.append(time.monotonic() - started)
        return out

    def run(self) -> None:
        """ManyError."""
        names = [f"many-{number}" for number in range(self._count)]
        self._xm("list")  # starts xend
        for number, name in enumerate(names):
            self._timed(self.figures.create, "create", "-q", self._config, f"name={name}")
            if number == 0:
                self._wait_up(names[:1])
                self.figures.memory_alone = self._memory(1)[0]
        self._wait_up(names)
        for _ in range(LISTINGS):
            listed = self._timed(self.figures.listing, "list").decode().splitlines()[1:]
            found = {line.split()[0] for line in listed}
            if found != {"Domain-0", *names}:
                raise ManyError(f"xm list shows {len(found)} domains instead of {len(names) + 1}")
        self.figures.memory = self._memory(len(names))
        for name in names:
            self._converse(name)
        for name in names:
            self._timed(self.figures.destroy, "destroy", name)
        if len(self._xm("list").splitlines()) != 2:
            raise ManyError("xm list still shows domains")

    def _wait_up(self, names: Sequence[str]) -> None:
        logs = [self._folder / "state" / "xenion" / "domains" / name / "console.log" for name in names]
        deadline = time.monotonic() + LIMIT_S
        while not all(UP in log.read_bytes() for log in logs):
            if time.monotonic() > deadline:
                raise ManyError("not all guests have come up")
            time.sleep(0.1)

    def _memory(self, count: int) -> list[float]:
        found = [
            value for pid in memory.processes() if (value := memory.read_process(pid, GUEST_MIB)) is not None
        ]
        if len(found) < count:
            raise ManyError(f"{len(found)} processes hold a guest's memory instead of {count}")
        return found

    def _converse(self, name: str) -> None:
        started = time.monotonic()
        with subprocess.Popen(
            [xm(), "console", name], env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as talk:
            assert talk.stdin is not None
            assert talk.stdout is not None
            talk.stdin.write(f"{name}\n".encode())
            talk.stdin.flush()
            wanted = ANSWER + b" " + name.encode()
            while (line := talk.stdout.readline()) and wanted not in line:
                pass
            self.figures.console.append(time.monotonic() - started)
            talk.kill()
            if wanted not in line:
                raise ManyError(f"{name} has not answered at its console")

    def clean(self) -> None:
        """Ends all that is left, and the xend."""
        if (self._folder / "run" / "xenion" / "xend.sock").exists():
            for line in self._xm("list").decode().splitlines()[2:]:
                self._xm("destroy", line.split()[0])
            xend = xm().with_name("xend")
            subprocess.run([xend, "stop"], env=self._environment, check=False, timeout=LIMIT_S)


def main(arguments: list[str] | None = None) -> int:
    """Run them, show the figures."""
    parser = argparse.ArgumentParser(prog="python -m benches.many", description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=DOMAINS, help="domains (default %(default)s)")
    parser.add_argument("--files", type=Path, help="a folder with vmlinuz-cloud and busybox")
    options = parser.parse_args(arguments)
    shutil.rmtree(FOLDER, ignore_errors=True)
    try:
        many = Many(options.count, Assets(FOLDER, options.files))
        try:
            many.run()
        finally:
            many.clean()
    except (ManyError, subprocess.TimeoutExpired, *FETCH_ERRORS) as error:
        print(f"many: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(many.figures.table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
