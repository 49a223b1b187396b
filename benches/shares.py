"""`python -m benches.shares [SECONDS]`: whether weights and caps are kept by busy domains on one of the host's CPUs.

Everything is done by the real xm against a xend of its own, whose folders are in build/shares. What keeps the shares is
whatever this user may use: run it as another user, too. Exit status: as that of benches.many.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benches.assets import FETCH_ERRORS, Assets
from benches.peers import xm
from xenion.images import initramfs

FOLDER = Path("build/shares")
SECONDS, SETTLE_S, LIMIT_S = 10.0, 2.0, 120.0
UP = b"SPIN-UP"
WEIGHTS = ((256, 256), (512, 256), (1024, 512, 256))
CAPS = (10, 25, 50)


class SharesError(Exception):
    """Something did not go well; the message says what."""


class Shares:
    def __init__(self, seconds: float, assets: Assets) -> None:
        self._seconds = seconds
        self._folder = FOLDER.resolve()
        self._environment = {
            **os.environ,
            "XDG_STATE_HOME": str(self._folder / "state"),
            "XDG_RUNTIME_DIR": str(self._folder / "run"),
        }
        ramdisk = self._folder / "initramfs.gz"
        guest = Path(__file__).parent / "guest" / "spin"
        ramdisk.write_bytes(initramfs.build({"init": guest, "bin/busybox": assets.busybox}))
        self._config = self._folder / "spin.cfg"
        keys = {"kernel": assets.cloud_kernel, "ramdisk": ramdisk, "extra": "console=hvc0 quiet", "cpus": "0"}
        self._config.write_text(
            "".join(f"{key} = {str(value)!r}\n" for key, value in keys.items()) + "memory = 96\n"
        )
        self.mechanism = ""

    def _xm(self, *words: str | Path) -> bytes:
        done = subprocess.run(
            [xm(), *words], env=self._environment, capture_output=True, check=False, timeout=LIMIT_S
        )
        if done.returncode:
            raise SharesError(
                f"xm {' '.join(map(str, words))}: {done.stderr.decode(errors='replace').strip()}"
            )
        return done.stdout

    def measure(self, words: Sequence[str]) -> list[float]:
        """Seconds of CPU time for each second, of domains that are created with these words. SharesError."""
        names = [f"spin-{number}" for number in range(len(words))]
        try:
            for name, word in zip(names, words, strict=True):
                self._xm("create", "-q", self._config, f"name={name}", word)
            self._wait_up(names)
            pids = [domain["pid"] for domain in json.loads(self._xm("list", "--json")) if domain["domid"]]
            self.mechanism = json.loads(self._xm("sched-credit", "--json", "-d", names[0]))[0]["mechanism"]
            time.sleep(SETTLE_S)
            before, began = [cpu_seconds(pid) for pid in pids], time.monotonic()
            time.sleep(self._seconds)
            after, took = [cpu_seconds(pid) for pid in pids], time.monotonic() - began
        finally:
            for name in names:
                subprocess.run(
                    [xm(), "destroy", name], env=self._environment, capture_output=True, check=False
                )
        return [(last - first) / took for first, last in zip(before, after, strict=True)]

    def clean(self) -> None:
        """Ends the xend."""
        if (self._folder / "run" / "xenion" / "xend.sock").exists():
            subprocess.run(
                [xm().with_name("xend"), "stop"], env=self._environment, check=False, timeout=LIMIT_S
            )

    def _wait_up(self, names: Sequence[str]) -> None:
        logs = [self._folder / "state" / "xenion" / "domains" / name / "console.log" for name in names]
        deadline = time.monotonic() + LIMIT_S
        while not all(log.exists() and UP in log.read_bytes() for log in logs):
            if time.monotonic() > deadline:
                raise SharesError("a guest did not come up")
            time.sleep(0.1)


def cpu_seconds(pid: int) -> float:
    """Of all threads of a process that are there."""
    times = [task.joinpath("schedstat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int(text.split()[0]) for text in times) / 1e9


def run(shares: Shares) -> None:
    """SharesError."""
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
    shutil.rmtree(FOLDER, ignore_errors=True)
    (FOLDER / "run").mkdir(parents=True, mode=0o700)
    try:
        shares = Shares(args.seconds, Assets(FOLDER, args.files))
        try:
            run(shares)
        finally:
            shares.clean()
    except (SharesError, *FETCH_ERRORS) as error:
        print(f"benches.shares: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
