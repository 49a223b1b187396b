"""`python -m benches.io [RUNS]`: disks and networks, beside the same Debian guest on QEMU's emulation with virtio.

Both guests boot from an overlay over one image that `xm image build` makes, have the same scratch disk, and run the
same fio and iperf3, in turns; the host's own file and loopback are measured in the same run. Needs mmdebstrap,
qemu-system-x86, qemu-utils, fio, iperf3 and ssh. Exit status: 0 measured, 1 it could not be, 130 interrupted.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benches.peers import QEMU, xm

FOLDER = Path("build/io").absolute()
IMAGE, MEMORY_MIB, SCRATCH_MIB = "xenion-bench-io", 768, 1024
BOOT_S, COMMAND_S = 180.0, 120.0
FIO = (
    ("randread 4k, depth 1", "randread", "4k", 1),
    ("randread 4k, depth 32", "randread", "4k", 32),
    ("randwrite 4k, depth 32", "randwrite", "4k", 32),
    ("read 1M, depth 4", "read", "1M", 4),
    ("write 1M, depth 4", "write", "1M", 4),
)
NET = (("iperf3, guest to host", ()), ("iperf3, host to guest", ("-R",)))
TOOLS = ("mmdebstrap", QEMU, "qemu-img", "fio", "iperf3", "ssh", "ssh-keygen")


class IoError(Exception):
    """It cannot be measured; the message says why."""


def run(*words: str | Path, limit_s: float = COMMAND_S, **more: Any) -> str:
    """The command's standard output. IoError."""
    try:
        done = subprocess.run(
            list(map(str, words)),
            check=True,
            capture_output=True,
            timeout=limit_s,
            stdin=subprocess.DEVNULL,
            **more,
        )
    except subprocess.CalledProcessError as error:
        raise IoError(f"{words[0]}: {error.stderr.decode(errors='replace').strip()}") from error
    except subprocess.TimeoutExpired as error:
        raise IoError(f"{words[0]} has not ended after {limit_s:g} s") from error
    return str(done.stdout.decode())


@dataclass(frozen=True)
class Machine:
    """A place where fio and iperf3 run: `run_in` takes a shell command and returns what it prints."""

    name: str
    disk: str
    run_in: Callable[[str], str]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def own_address() -> str:
    """By which guests reach the host. IoError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        try:
            made.connect(("192.0.2.1", 9))
        except OSError:
            raise IoError("the host has no address but its loopback's: networks cannot be compared") from None
        return str(made.getsockname()[0])


def over_ssh(port: int, key: Path) -> Callable[[str], str]:
    options = ("BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR")
    words = ["ssh", "-p", str(port), "-i", str(key), *(f"-o{option}" for option in options), "root@127.0.0.1"]
    return lambda command: run(*words, command)


def wait_for(machine: Machine) -> None:
    """IoError."""
    deadline = time.monotonic() + BOOT_S
    while True:
        try:
            machine.run_in("true")
        except IoError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)
        else:
            return


# --- the machines


def image(key: Path) -> Path:
    """The folder of an image with fio, iperf3 and our key."""
    try:
        found = Path(run(xm(), "image", "path", IMAGE).strip())
        if (FOLDER / "built").exists():
            return found
    except IoError:
        pass
    words = ("--packages", "fio,iperf3", "--ssh-key", f"{key}.pub", "--force")
    run(xm(), "image", "build", "debian", IMAGE, *words, limit_s=1200)
    (FOLDER / "built").touch()
    return Path(run(xm(), "image", "path", IMAGE).strip())


@contextmanager
def xenion(made: Path, scratch: Path, key: Path) -> Iterator[Machine]:
    port = free_port()
    config = FOLDER / "xenion.cfg"
    config.write_text(
        f'name = "bench-io"\nkernel = "{made}/vmlinuz"\nramdisk = "{made}/initrd.img"\nmemory = {MEMORY_MIB}\n'
        'root = "/dev/xvda ro"\nextra = "console=hvc0 rootfstype=ext4 quiet"\n'
        f'disk = ["format=raw, overlay, vdev=xvda, access=rw, target={made}/root.img",\n'
        f'        "format=raw, vdev=xvdb, access=rw, target={scratch}"]\n'
        f'vif = ["forward=tcp:{port}:22"]\n'
    )
    folders = {f"XDG_{name}_HOME": str(FOLDER / name.lower()) for name in ("STATE", "CONFIG")}
    environment = {**os.environ, **folders, "XDG_RUNTIME_DIR": str(FOLDER / "run")}
    run(xm(), "create", config, env=environment)
    try:
        yield Machine("xenion", "/dev/xvdb", over_ssh(port, key))
    finally:
        run(xm(), "destroy", "bench-io", env=environment)


@contextmanager
def qemu(made: Path, scratch: Path, key: Path) -> Iterator[Machine]:
    port, overlay = free_port(), FOLDER / "qemu.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", made / "root.img", overlay)
    words = [
        QEMU, "-accel", "tcg", "-m", str(MEMORY_MIB), "-nographic", "-no-reboot",
        "-kernel", f"{made}/vmlinuz", "-initrd", f"{made}/initrd.img",
        "-append", "console=ttyS0 root=/dev/vda ro rootfstype=ext4 quiet",
        "-drive", f"file={overlay},if=virtio", "-drive", f"file={scratch},format=raw,if=virtio",
        "-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{port}-:22", "-device", "virtio-net-pci,netdev=net",
    ]  # fmt: skip
    with (FOLDER / "qemu.log").open("wb") as said:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    try:
        yield Machine("qemu", "/dev/vdb", over_ssh(port, key))
    finally:
        process.terminate()
        process.wait()


def host(scratch: Path) -> Machine:
    return Machine("host", str(scratch), lambda command: run("sh", "-c", command))


# --- what is measured


def fio(machine: Machine, rw: str, size: str, depth: int) -> float:
    """MB/s."""
    direct = int(machine.name != "host")
    said = machine.run_in(
        f"fio --name=x --filename={machine.disk} --rw={rw} --bs={size} --iodepth={depth} --ioengine=libaio "
        f"--direct={direct} --runtime=5 --time_based --size={SCRATCH_MIB - 64}M --output-format=json"
    )
    job = json.loads(said[said.index("{") :])["jobs"][0]
    return float(job["write" if "write" in rw else "read"]["bw_bytes"]) / 1e6


def iperf(machine: Machine, address: str, more: Sequence[str]) -> float:
    """MB/s."""
    port = free_port()
    with subprocess.Popen(["iperf3", "-s", "-1", "-p", str(port)], stdout=subprocess.DEVNULL) as server:
        try:
            said = machine.run_in(f"iperf3 -c {address} -p {port} -t 5 -J {' '.join(more)}")
        finally:
            server.terminate()
    return float(json.loads(said)["end"]["sum_received"]["bits_per_second"]) / 8e6


def measure(machine: Machine, address: str) -> dict[str, float]:
    found = {name: fio(machine, rw, size, depth) for name, rw, size, depth in FIO}
    if address:
        found |= {name: iperf(machine, address, more) for name, more in NET}
    return found


def table(results: dict[str, dict[str, list[float]]]) -> str:
    """Medians in MB/s, and how Xenion compares: above 1 it is ahead."""
    lines = [f"{'MB/s':26}{'xenion':>10}{'qemu':>10}{'host':>10}{'/qemu':>8}{'/host':>8}"]
    for row in next(iter(results.values())):
        values = {name: statistics.median(rows[row]) for name, rows in results.items()}
        ours = values["xenion"]
        shown = "".join(f"{values[name]:10.1f}" for name in ("xenion", "qemu", "host"))
        lines.append(f"{row:26}{shown}{ours / values['qemu']:8.2f}{ours / values['host']:8.2f}")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benches.io", description=__doc__)
    parser.add_argument("runs", nargs="?", type=int, default=3)
    runs = parser.parse_args(words).runs
    try:
        missing = [tool for tool in TOOLS if shutil.which(tool) is None]
        if missing:
            raise IoError(f"these are not installed: {', '.join(missing)}")
        print(table(compare(runs)))
    except IoError as error:
        print(f"benches.io: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def compare(runs: int) -> dict[str, dict[str, list[float]]]:
    """MB/s by machine and row. IoError."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    key, scratch = FOLDER / "key", FOLDER / "scratch.img"
    if not key.exists():
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    made = image(key)
    with scratch.open("wb") as file:  # written, not only allocated: all find it in the host's cache
        for _ in range(SCRATCH_MIB):
            file.write(bytes(1 << 20))
    address = ""
    with suppress(IoError):
        address = own_address()
    results: dict[str, dict[str, list[float]]] = {}
    for number in range(runs):
        print(f">> run {number + 1} of {runs}", file=sys.stderr)
        for name, rows in one_run(made, scratch, key, address):
            for row, value in rows.items():
                results.setdefault(name, {}).setdefault(row, []).append(value)
    return results


def one_run(made: Path, scratch: Path, key: Path, address: str) -> Iterator[tuple[str, dict[str, float]]]:
    for guest in (xenion, qemu):
        with guest(made, scratch, key) as machine:
            wait_for(machine)
            yield machine.name, measure(machine, address)
    yield "host", measure(host(scratch), address)


if __name__ == "__main__":
    sys.exit(main())
