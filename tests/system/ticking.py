"""Guests that count on, and what is seen of that from outside."""

import re
from typing import TYPE_CHECKING

from tests.system.xm import wait_for

if TYPE_CHECKING:
    from tests.system.conftest import Kernel
    from tests.system.xm import Xm

TICKS = """
dmesg -n 1
mkdir /kept; mount -t tmpfs work /kept
head -c 3000000 /dev/urandom > /kept/data; md5sum < /kept/data > /kept/sum
work() { while :; do md5sum < /kept/data | cmp - /kept/sum || echo wrong; done; }
work & work &
n=0
while :; do n=$((n+1)); echo "tick $n $(cut -d. -f1 /proc/uptime) $(date +%s)"; sleep 0.1; done
"""


def ticks(xm: "Xm", name: str) -> list[tuple[int, int]]:
    """Numbers and the guest's uptime, of the lines that are whole."""
    found = re.findall(r"^tick (\d+) (\d+) \d+$", xm.console_log(name).rpartition("\n")[0], re.MULTILINE)
    return [(int(number), int(uptime)) for number, uptime in found]


def wait_for_more(xm: "Xm", name: str, count: int = 5) -> None:
    so_far = len(ticks(xm, name))
    wait_for(lambda: len(ticks(xm, name)) >= so_far + count)


def names(xm: "Xm") -> list[str]:
    return [domain["name"] for domain in xm.json("list") if domain["domid"] != 0]


def spinning(xm: "Xm", tiny_kernel: "Kernel", name: str) -> None:
    """A domain that does nothing else."""
    config = xm.config(name, kernel=tiny_kernel("spin", "x\n"), name=name, memory=16)
    assert xm.run("create", "-q", config).status == 0
