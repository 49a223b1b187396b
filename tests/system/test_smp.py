"""Stock Linux with several virtual CPUs: how many are online, what they do together, what xm tells of them."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elftools.elf.elffile import ELFFile

from tests.system.xm import wait_for

if TYPE_CHECKING:
    from tests.system.conftest import GuestMaker
    from tests.system.xm import Xm

COUNTS = """
exec 2>/dev/null  # one that goes while it is looked at
echo up
last=0
while :; do
  for cpu in /sys/devices/system/cpu/cpu*/online; do [ $(cat $cpu) = 1 ] || echo 1 > $cpu; done
  now=$(nproc)
  [ $now = $last ] || echo "online $now"
  last=$now
done
"""
"""Linux takes virtual CPUs away by itself; one that comes is brought online by user space, udev as a rule."""
TOGETHER = """
work() {
  dd if=/dev/zero bs=64k count=160 2>/dev/null | md5sum
  for n in 1 2 3 4 5; do sh -c 'echo $n' >/dev/null; done
}
for n in 1 2 3 4 5 6 7 8; do work & done
wait
for n in 1 2 3 4; do dd if=/dev/zero bs=4k count=500 2>/dev/null | cat | cat | wc -c & done
wait
for n in 0 1 2 3; do taskset $((1 << n)) sh -c 'echo ran on $(cut -d" " -f39 /proc/self/stat)'; done
echo busy=$(awk '/^cpu[0-9]/ && $2 + $4 > 0' /proc/stat | wc -l)
echo steal=$(awk '/^cpu / { print ($9 > 0) }' /proc/stat)
echo complaints=$(dmesg | grep -ciE 'rcu.*stall|lockup|hung|backward|unstable|BUG:|WARNING:')
"""


PAUSE_S = 3.0


def states(xm: "Xm", name: str) -> list[str]:
    return [vcpu["state"] for vcpu in xm.json("vcpu-list", name)]


def online(xm: "Xm", name: str) -> int:
    """As the guest said last."""
    found = re.findall(r"^online (\d+)$", xm.console_log(name), re.MULTILINE)
    return int(found[-1]) if found else 0


def listed(xm: "Xm", name: str) -> dict[str, Any]:
    (domain,) = xm.json("list", name)
    return dict(domain)


def notes_of(segment: Any) -> list[Any]:
    return list(segment.iter_notes())


def test_virtual_cpus_come_and_go(xm: "Xm", guest: "GuestMaker") -> None:
    config = guest(COUNTS, name="many", vcpus=2, maxvcpus=4, on_reboot="restart")
    assert xm.run("create", "-q", config).status == 0
    wait_for(lambda: online(xm, "many") == 2)
    wait_for(lambda: states(xm, "many")[2:] == ["offline", "offline"])
    assert listed(xm, "many")["vcpus"] == 2
    for count in (4, 1, 3):
        assert xm.run("vcpu-set", "many", str(count)).status == 0
        wait_for(lambda count=count: online(xm, "many") == count)  # type: ignore[misc]
        wait_for(lambda count=count: states(xm, "many").count("offline") == 4 - count)  # type: ignore[misc]
        assert listed(xm, "many")["vcpus"] == count
    assert "from 1 to 4 virtual CPUs online, not 5" in xm.run("vcpu-set", "many", "5").sentence()
    assert sum(vcpu["cpu_seconds"] > 0 for vcpu in xm.json("vcpu-list", "many")) == 4
    assert xm.run("pause", "many").status == 0
    assert sorted(states(xm, "many")) == ["offline", "paused", "paused", "paused"]
    assert xm.run("unpause", "many").status == 0
    wait_for(lambda: "running" in states(xm, "many"))
    assert xm.run("destroy", "many").status == 0


def test_they_work_together(xm: "Xm", guest: "GuestMaker") -> None:
    done = xm.create(guest(TOGETHER, vcpus=4, memory=256), timeout_s=120)
    assert done.status == 0, done.stderr
    assert done.console.count("  -\n") == 8
    assert len(set(re.findall(r"^[0-9a-f]{32}", done.console, re.MULTILINE))) == 1
    assert done.console.count("2048000\n") == 4
    assert [f"ran on {n}" in done.lines for n in range(4)] == [True] * 4
    facts = done.facts()
    assert (facts["busy"], facts["steal"], facts["complaints"]) == ("4", "1", "0"), done.console


def test_a_pause_is_held_against_none(xm: "Xm", guest: "GuestMaker", program: Callable[[str], Path]) -> None:
    """The one that was running when it began is not made to wait until the others have run for as long."""
    config = guest("/gaps 3 < /dev/console", programs={"gaps": program("gaps")}, name="busy", vcpus=3)
    with xm.conversation(config) as talk:
        talk.wait_for("computing")
        assert xm.run("pause", "busy").status == 0
        began = time.monotonic()
        wait_for(lambda: time.monotonic() - began > PAUSE_S)
        assert xm.run("unpause", "busy").status == 0
        goes_on = time.monotonic()
        wait_for(lambda: time.monotonic() - goes_on > 3 * PAUSE_S)
        talk.say(b"enough\n")
        done = talk.finish(120)
    gaps = [int(done.facts()[f"gap{cpu}"]) for cpu in range(3)]
    assert max(gaps) < 2 * 1000 * (goes_on - began)


def test_a_core_has_a_thread_for_each(xm: "Xm", guest: "GuestMaker") -> None:
    assert xm.run("create", "-q", guest("echo up; while :; do :; done", name="many", vcpus=3)).status == 0
    wait_for(lambda: "up\n" in xm.console_log("many"))
    core = xm.folder / "core"
    assert xm.run("dump-core", "many", core).status == 0
    with core.open("rb") as file:
        notes = [note for segment in ELFFile(file).iter_segments("PT_NOTE") for note in notes_of(segment)]
    assert [note["n_type"] for note in notes].count("NT_PRSTATUS") == 3
    assert xm.run("destroy", "many").status == 0


def test_a_guest_that_crashes_leaves_a_report_of_all(xm: "Xm", guest: "GuestMaker") -> None:
    config = guest("echo c > /proc/sysrq-trigger; sleep 100", name="many", vcpus=2, extra="quiet panic=1")
    assert xm.create(config).status != 0
    (report,) = xm.domain_folder("many").glob("crash-*.txt")
    text = report.read_text()
    assert ("Registers of vCPU 0" in text, "Registers of vCPU 1" in text) == (True, True)


def test_the_hardware_processor_has_one_for_now(xm: "Xm", guest: "GuestMaker") -> None:
    done = xm.create(guest("echo", vcpus=2, processor="hardware"))
    assert done.status == 2
    assert "hardware processor" in done.sentence()
