"""Boots a probe as domain 0 of a real Xen under QEMU: the oracle for what Xen answers.

``XENION_ORACLE_XEN`` names an uncompressed Xen ELF; ``pytest tests/guest --oracle`` then asks it. Also a
command, from the project's root: ``python -m tests.guest.oracle PROBE...`` prints what the probes say.
"""

from __future__ import annotations

import os
import re
import selectors
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.guest.kit import build

XEN_OPTIONS = "console=com1 dom0=pv dom0_mem=512M loglvl=all guest_loglvl=all sync_console"
BOOT_S = 15.0  # what Xen itself needs before the probe runs, generously
ENDS = {
    b"Dom0 halted: halting machine": "poweroff",
    b"Dom0 shutdown: rebooting machine": "reboot",
    b"Dom0 crashed: ": "crash",
    b"Domain 0 crashed: ": "crash",
    b"Panic on CPU": "panic",
}


@dataclass(frozen=True)
class OracleOutcome:
    """What the probe printed, from its plan on, and how domain 0 ended ("timeout": it did not)."""

    console: str
    reason: str
    report: str | None = None


def missing() -> str | None:
    """Why the oracle cannot be asked here, or None."""
    if not os.environ.get("XENION_ORACLE_XEN"):
        return "XENION_ORACLE_XEN does not name an uncompressed Xen ELF"
    if not Path(os.environ["XENION_ORACLE_XEN"]).is_file():
        return f"XENION_ORACLE_XEN: no file {os.environ['XENION_ORACLE_XEN']}"
    if not shutil.which("qemu-system-x86_64"):
        return "qemu-system-x86_64 is not installed"
    return None


def ask(kernel: Path, timeout_s: float, cmdline: str = "") -> OracleOutcome:
    """Boot ``kernel`` with "oracle" on its command line until it ends or ``timeout_s`` have passed."""
    command = [
        "qemu-system-x86_64",
        "-accel",
        "tcg",
        "-cpu",
        "qemu64",
        "-m",
        "1024",
        "-nographic",
        "-nic",
        "none",
        "-no-reboot",
        "-kernel",
        os.environ["XENION_ORACLE_XEN"],
        "-append",
        XEN_OPTIONS,
        "-initrd",
        f"{kernel} oracle {cmdline}",
    ]
    qemu = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        output, reason = _read_until_end(qemu, time.monotonic() + timeout_s)
    finally:
        qemu.kill()
        qemu.wait()
        if qemu.stdout:
            qemu.stdout.close()
    text = output.decode(errors="replace").replace("\r", "")
    start = re.search(r"1\.\.\d+\n", text)
    return OracleOutcome(text[start.start() :] if start else "", reason, None if start else text)


def _read_until_end(qemu: subprocess.Popen[bytes], deadline: float) -> tuple[bytes, str]:
    output = b""
    if qemu.stdout is None:
        raise AssertionError("stdout is a pipe")
    with selectors.DefaultSelector() as selector:
        selector.register(qemu.stdout, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            chunk = os.read(qemu.stdout.fileno(), 65536)
            if not chunk:
                return output, "closed"
            output += chunk
            for line, reason in ENDS.items():
                if line in output:
                    return output, reason
    return output, "timeout"


def main(names: list[str]) -> int:
    """Print what each probe says on the oracle; 1 if any line is not ok."""
    why = missing()
    if why:
        print(why, file=sys.stderr)
        return 2
    bad = 0
    for name in names or build.probes():
        outcome = ask(build.compile_probe(name), timeout_s=BOOT_S + build.seconds(name))
        lines = outcome.console.splitlines() or (outcome.report or "").splitlines()[-25:]
        wrong = [line[:200] for line in lines if not re.match(r"ok [^#]*$|\(XEN\)", line)]
        passed = sum(line.startswith("ok ") for line in lines)
        print(f"{name}: {passed} ok, ended by {outcome.reason}", *wrong, sep="\n  ", flush=True)
        bad += any(line.startswith("FAIL") for line in wrong) or outcome.reason != build.outcome(name)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
