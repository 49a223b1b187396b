"""Memory that comes and goes: the stock balloon driver does it, and the host has what the guest gives back."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.system.xm import wait_for

if TYPE_CHECKING:
    from tests.system.conftest import GuestMaker
    from tests.system.xm import Xm

TELLS = """
mkdir -p /mnt; mount -t tmpfs -o size=90% none /mnt
dd if=/dev/zero bs=1M count=60 2>/dev/null | tr '\\0' x > /mnt/file; rm /mnt/file
echo up
last=0
while :; do
  now=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
  [ $now = $last ] || echo "total $now"
  last=$now
done
"""
"""Most of its memory has been used once."""


def total(xm: "Xm", name: str) -> int:
    """As the guest said last, in MiB."""
    log = (xm.domain_folder(name) / "console.log").read_text(errors="replace").replace("\r", "")
    found = re.findall(r"^total (\d+)$", log, re.MULTILINE)
    return int(found[-1]) if found else 0


def listed(xm: "Xm", name: str) -> dict[str, Any]:
    (domain,) = xm.json("list", name)
    return dict(domain)


def resident_mib(pid: int) -> int:
    """Of the domain process, as the host counts it."""
    found = re.search(r"^RssShmem:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) // 1024


def test_memory_comes_and_goes(xm: "Xm", guest: "GuestMaker") -> None:
    assert xm.run("create", "-q", guest(TELLS, name="elastic", memory=128, maxmem=192)).status == 0
    wait_for(lambda: total(xm, "elastic") > 0)
    begins, pid = total(xm, "elastic"), xm.the_domain().pid
    has = resident_mib(pid)
    assert (listed(xm, "elastic")["memory_mib"], listed(xm, "elastic")["maxmem_mib"]) == (128, 192)

    assert xm.run("mem-set", "elastic", "80").status == 0
    wait_for(lambda: listed(xm, "elastic")["memory_mib"] == 80)
    wait_for(lambda: total(xm, "elastic") == begins - 48)
    assert resident_mib(pid) < has - 16, "most of what it gave was not in use any more, but had been"

    assert xm.run("mem-set", "elastic", "192").status == 0
    wait_for(lambda: listed(xm, "elastic")["memory_mib"] == 192)
    wait_for(lambda: total(xm, "elastic") == begins + 64)
    assert "from 1 to 192 MiB" in xm.run("mem-set", "elastic", "193").sentence()

    assert "from 192 MiB" in xm.run("mem-max", "elastic", "160").sentence()
    assert xm.run("mem-set", "elastic", "128").status == 0
    wait_for(lambda: total(xm, "elastic") == begins)
    assert xm.run("mem-max", "elastic", "160").status == 0
    assert listed(xm, "elastic")["maxmem_mib"] == 160
    assert "from 1 to 160 MiB" in xm.run("mem-set", "elastic", "161").sentence()
    assert xm.run("destroy", "elastic").status == 0
