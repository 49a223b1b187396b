"""`python -m benches.many [N]`: N small domains created, listed, spoken to at their consoles, measured and destroyed.

Everything is done by the real xm against a xend of its own, whose folders are in build/many.
Exit status: 0 all went well, 1 something did not, 2 wrong usage, 130 interrupted.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from benches import memory
from benches.assets import FETCH_ERRORS, Assets
from benches.own_xend import OwnXend, XendError
from benches.peers import xm

FOLDER = Path("build/many")
DOMAINS, GUEST_MIB, LISTINGS = 50, 96, 20
UP, ANSWER = b"MANY-UP", b"MANY-ANSWER"


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


class Many(OwnXend):
    def __init__(self, count: int, assets: Assets) -> None:
        super().__init__(FOLDER)
        self._count = count
        self._config = self.config(assets, "many", {"memory": GUEST_MIB})
        self.figures = Figures()

    def _timed(self, into: list[float], *words: str | Path) -> bytes:
        started = time.monotonic()
        out = self.xm(*words)
        into.append(time.monotonic() - started)
        return out

    def run(self) -> None:
        """XendError."""
        names = [f"many-{number}" for number in range(self._count)]
        self.xm("list")  # starts xend
        for number, name in enumerate(names):
            self._timed(self.figures.create, "create", "-q", self._config, f"name={name}")
            if number == 0:
                self.wait_up(names[:1], UP)
                self.figures.memory_alone = self._memory(1)[0]
        self.wait_up(names, UP)
        for _ in range(LISTINGS):
            listed = self._timed(self.figures.listing, "list").decode().splitlines()[1:]
            found = {line.split()[0] for line in listed}
            if found != {"Domain-0", *names}:
                raise XendError(f"xm list shows {len(found)} domains instead of {len(names) + 1}")
        self.figures.memory = self._memory(len(names))
        for name in names:
            self._converse(name)
        for name in names:
            self._timed(self.figures.destroy, "destroy", name)
        if len(self.xm("list").splitlines()) != 2:
            raise XendError("xm list still shows domains")

    def _memory(self, count: int) -> list[float]:
        found = [
            value for pid in memory.processes() if (value := memory.read_process(pid, GUEST_MIB)) is not None
        ]
        if len(found) < count:
            raise XendError(f"{len(found)} processes hold a guest's memory instead of {count}")
        return found

    def _converse(self, name: str) -> None:
        started = time.monotonic()
        with subprocess.Popen(
            [xm(), "console", name], env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
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
                raise XendError(f"{name} has not answered at its console")


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
    except (XendError, subprocess.TimeoutExpired, *FETCH_ERRORS) as error:
        print(f"many: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(many.figures.table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
