"""The hardware processor under the real xm: the same guests as everywhere, one for each thing that it could break."""

from typing import TYPE_CHECKING

import pytest

from tests.processor.kit.processors import why_not
from tests.system.test_linux import FACTS, trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tests.system.conftest import GuestMaker
    from tests.system.disk_guest import Image
    from tests.system.xm import Xm

COMPUTE = """
for n in 1 2 3 4 5 6 7 8; do
    (head -c 2000000 /dev/zero | sha256sum; dd if=/dev/zero of=/tmp/$n bs=64k count=30 2>/dev/null; md5sum /tmp/$n) &
done
wait
echo computed=yes
"""


OF_THE_HOST = ("hw-vuln", "RETBleed: WARNING")
"""What the kernel says of the host's processor, and as loudly under Xen."""


def _not_of_the_host(lines: "Iterable[str]") -> list[str]:
    return [line for line in lines if not any(words in line for words in OF_THE_HOST)]


@pytest.fixture(autouse=True)
def _usable() -> None:
    if why := why_not("hardware"):
        pytest.skip(why)


def test_xm_info_tells_of_it(xm: "Xm") -> None:
    (note,) = [note for note in xm.json("info")["processor_notes"] if note.startswith("hardware: ")]
    assert "/dev/kvm, on trial" in note


@pytest.mark.parametrize("kernel", ["guest", "generic_guest"])
def test_a_stock_kernel_boots_without_a_complaint(
    xm: "Xm", request: pytest.FixtureRequest, program: "Callable[[str], Path]", kernel: str
) -> None:
    make: GuestMaker = request.getfixturevalue(kernel)
    config = make(
        FACTS + COMPUTE,
        programs={"xenstore": program("xenstore")},
        name="facts",
        memory=256,
        processor="hardware",
    )
    done = xm.create(config)
    assert done.status == 0, done.stderr
    facts = done.facts()
    assert (facts["hypervisor"], facts["guest_type"], facts["clocksource"]) == ("xen", "PV", "xen")
    assert facts["computed"] == "yes"
    log = [line for line in done.lines if line.startswith("dmesg: ")]
    assert any("Checked W+X mappings: passed" in line for line in log)
    assert _not_of_the_host(trouble(log)) == []
    assert "r=data/mark -> here" in done.lines


def test_a_reboot_starts_it_anew_in_its_process(xm: "Xm", guest: "GuestMaker") -> None:
    config = guest("echo once more; reboot -f", name="again", on_reboot="restart", processor="hardware")
    with xm.conversation(config) as talk:
        for _ in range(3):
            talk.wait_for("once more")
    assert xm.run("destroy", "again").status == 0


def test_it_is_paused_and_destroyed_while_it_computes(xm: "Xm", guest: "GuestMaker") -> None:
    assert xm.run("create", "-q", guest("while :; do :; done", name="busy", processor="hardware")).status == 0
    for command, state in (("pause", "paused"), ("unpause", "running")):
        assert xm.run(command, "busy").status == 0
        assert xm.run("domstate", "busy").stdout.decode().strip() == state
    assert xm.run("destroy", "busy").status == 0


def test_debian_boots_from_its_disk_to_its_network(xm: "Xm", debian_guest: "Image") -> None:
    from tests.system.disk_guest import DebianGuest

    debian = DebianGuest(xm, debian_guest, "native")
    debian.boot(processor="hardware")
    try:
        debian.check_running()
        assert "via 10.0.2.2" in debian.run("ip route show default")
        debian.run(
            "dd if=/dev/urandom of=/var/tmp/data bs=1M count=16 && sync && echo 3 > /proc/sys/vm/drop_caches"
        )
        assert len(debian.run("sha256sum /var/tmp/data").split()[0]) == 64
        assert _not_of_the_host(debian.complaints.splitlines()) == []
    finally:
        debian.end()
