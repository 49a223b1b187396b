"""`make demo DISK=1` without a terminal: boots the guest, shows what it says of itself, and powers it off."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

from xenion.api import console

WORDS = (
    "uname -a",
    "findmnt -no SOURCE,FSTYPE /",
    "systemctl is-system-running --wait; systemctl --failed --no-legend",
    "ip -4 -brief address show scope global",
)
BOOT_S, ANSWER_S = 300.0, 120.0
PROMPT = re.compile(rb"root@[^\r\n]*# $")


def main() -> int:
    subprocess.run(["xm", "create", sys.argv[1]], check=True)
    name = re.search(r'^name = "(.*)"', Path(sys.argv[1]).read_text(), re.MULTILINE)
    if name is None:
        sys.exit(f"{sys.argv[1]} has no name")
    shown = json.loads(subprocess.run(["xm", "list", "--json", name[1]], check=True, capture_output=True).stdout)
    attached = console.attach(Path(shown[0]["console"]), None)
    try:
        read_to_prompt(attached, BOOT_S)
        for words in WORDS:
            attached.stream.sendall(words.encode() + b"\n")
            read_to_prompt(attached, ANSWER_S)
    finally:
        attached.stream.close()
        print()
        subprocess.run(["xm", "shutdown", "-w", name[1]], check=True)
    return 0


def read_to_prompt(attached: console.Attached, seconds: float) -> None:
    deadline, said = time.monotonic() + seconds, b""
    while not PROMPT.search(said):
        attached.stream.settimeout(max(deadline - time.monotonic(), 0.01))
        data = attached.stream.recv(65536)
        if not data:
            raise EOFError("the guest has ended")
        said += data
        sys.stdout.buffer.write(data)
        sys.stdout.flush()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (subprocess.CalledProcessError, TimeoutError, EOFError, OSError) as error:
        sys.exit(f"demo: {error}")
