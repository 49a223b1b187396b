"""`python -m benches.shares [SECONDS]`: whether weights and caps are kept by busy domains on one of the host's CPUs.

Everything is done by the real xm against a xend of its own, whose folders are in build/shares. What keeps the shares is
whatever this user may use: run it as another user, too. Exit status: as that of benches.many.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benches.assets import Assets
from benches.own_xend import OwnXend, within

FOLDER = Path("build/shares")
SECONDS, SETTLE_S = 10.0, 2.0
UP = b"SPIN-UP"
WEIGHTS = ((256, 256), (512, 256), (1024, 512, 256))
CAPS = (10, 25, 50)


class Shares(OwnXend):
    def __init__(self, seconds: float, assets: Assets) -> None:
        super().__init__(FOLDER)
        self._seconds = seconds
        self._config = self.config(assets, "spin", {"memory": 96, "cpus": "0"})
        self.mechanism = ""

    def measure(self, words: Sequence[str]) -> list[float]:
        """Seconds of CPU time for each second, of domains that are created with these words. XendError."""
        names = [f"spin-{number}" for number in range(len(words))]
        for name, word in zip(names, words, strict=True):
            self.xm("create", "-q", self._config, f"name={name}", word)
        self.wait_up(names, UP)
        pids = [domain["pid"] for domain in json.loads(self.xm("list", "--json")) if domain["domid"]]
        self.mechanism = json.loads(self.xm("sched-credit", "--json", "-d", names[0]))[0]["mechanism"]
        time.sleep(SETTLE_S)
        before, began = [cpu_seconds(pid) for pid in pids], time.monotonic()
        time.sleep(self._seconds)
        after, took = [cpu_seconds(pid) for pid in pids], time.monotonic() - began
        self.xm("destroy", *names)
        return [(last - first) / took for first, last in zip(before, after, strict=True)]


def cpu_seconds(pid: int) -> float:
    """Of all threads of a process that are there."""
    times = [task.joinpath("schedstat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int(text.split()[0]) for text in times) / 1e9


def run(shares: Shares) -> None:
    """XendError."""
    print("| domains on one CPU | should get, % | got, % |\n|---|---|---|")
    for weights in WEIGHTS:
        got = shares.measure([f"cpu_weight={weight}" for weight in weights])
        wanted = [100 * weight / sum(weights) for weight in weights]
        parts = [100 * share / sum(got) for share in got]
        print(f"| weights {':'.join(map(str, weights))} | {_text(wanted)} | {_text(parts)} |", flush=True)
    for cap in CAPS:
        got = [100 * share for share in shares.measure([f"cap={cap}"])]
        print(f"| a cap of {cap} % | {_text([cap])} | {_text(got)} |", flush=True)
    print(f"kept by {shares.mechanism}")


def _text(shares: Sequence[float]) -> str:
    return " : ".join(f"{share:.1f}" for share in shares)


def main(argv: Sequence[str]) -> int:
    p = argparse.ArgumentParser(prog="python -m benches.shares", description=__doc__.splitlines()[0])
    p.add_argument("seconds", type=float, nargs="?", default=SECONDS, help="how long each is measured")
    p.add_argument("--files", type=Path, help="a folder with vmlinuz-cloud and busybox")
    args = p.parse_args(argv)
    return within("benches.shares", FOLDER, lambda: Shares(args.seconds, Assets(FOLDER, args.files)), run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
