"""Debian's stock kernels boot, see what they were promised, and end as they were told."""

import hashlib
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.conftest import GuestMaker
    from tests.system.xm import Finished, Xm

FACTS = """
dmesg -n 1
echo release=$(uname -r)
echo hypervisor=$(cat /sys/hypervisor/type)
echo guest_type=$(cat /sys/hypervisor/guest_type)
echo target_kib=$(cat /sys/devices/system/xen_memory/xen_memory0/target_kb)
echo clocksource=$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)
echo cpus=$(grep -c ^processor /proc/cpuinfo)
/xenstore r=name r=domid r=/local/domain/1/name w=data/mark=here r=data/mark r=nothing \\
  r=/local/domain/0/secret w=name=other d=device
dmesg | sed 's/^/dmesg: /'
"""

TROUBLE = re.compile(
    r"WARNING:|\bBUG\b|Oops|general protection|Call Trace|W\+X pages found|rcu.*stall|soft lockup|unable to handle"
)
NO_TROUBLE = re.compile(r"no W\+X pages found")


def trouble(lines: list[str]) -> list[str]:
    return [line for line in lines if TROUBLE.search(line) and not NO_TROUBLE.search(line)]


def usable_kib(lines: list[str]) -> int:
    """What the kernel counts as its memory, from `Memory: ...K/...K available`."""
    for line in lines:
        if found := re.search(r"Memory: \d+K/(\d+)K available", line):
            return int(found[1])
    raise AssertionError("the kernel did not tell its memory")


class Test_a_stock_kernel:
    @pytest.fixture(params=["cloud", "generic"])
    def make(self, request: pytest.FixtureRequest) -> "GuestMaker":
        maker: GuestMaker = request.getfixturevalue("guest" if request.param == "cloud" else "generic_guest")
        return maker

    def test_boots_and_is_a_xen_guest_without_a_complaint(
        self, xm: "Xm", make: "GuestMaker", program: "Callable[[str], Path]"
    ) -> None:
        config = make(FACTS, programs={"xenstore": program("xenstore")}, name="facts", memory=256)
        done = xm.create(config)
        assert done.status == 0, done.stderr
        assert done.stderr == ""
        facts = done.facts()
        assert facts["hypervisor"] == "xen"
        assert facts["guest_type"] == "PV"
        assert facts["target_kib"] == str(256 * 1024)
        assert facts["clocksource"] == "xen"
        assert facts["cpus"] == "1"
        log = [line for line in done.lines if line.startswith("dmesg: ")]
        assert any("Hypervisor detected: Xen PV" in line for line in log)
        assert any("Checked W+X mappings: passed" in line for line in log)
        assert trouble(log) == []
        assert 0 <= 256 * 1024 - usable_kib(log) < 1024
        assert "r=name -> facts" in done.lines
        assert "r=domid -> 1" in done.lines
        assert "r=data/mark -> here" in done.lines
        assert "r=nothing -> error ENOENT" in done.lines
        assert "r=/local/domain/0/secret -> error EACCES" in done.lines
        assert "w=name=other -> error EACCES" in done.lines


@pytest.mark.parametrize("mib", [96, 4096, pytest.param(16384, marks=pytest.mark.slow)])
def test_memory_is_what_was_asked_for(
    xm: "Xm", guest: "GuestMaker", mib: int, needs_memory: "Callable[[int], None]"
) -> None:
    needs_memory(mib + 256)
    done = xm.create(guest("dmesg | grep Memory:; dmesg | grep -c WARNING", memory=mib))
    assert done.status == 0, done.stderr
    assert 0 <= mib * 1024 - usable_kib(done.lines) < 1024


class Test_the_console:
    def test_every_byte_arrives_in_order(
        self, xm: "Xm", guest: "GuestMaker", program: "Callable[[str], Path]"
    ) -> None:
        count = 32768
        done = xm.create(guest(f"dmesg -n 1; /numbers {count}", programs={"numbers": program("numbers")}))
        assert done.status == 0
        got = [line for line in done.stdout.decode().split("\n") if "quick brown fox" in line]
        wanted = [
            f"{i:08} the quick brown fox jumps over the lazy dog {i * 2654435761 & 0xFFFFFFFF:08x}..\r"
            for i in range(count)
        ]
        assert got == wanted

    def test_is_kept_in_a_file(self, xm: "Xm", guest: "GuestMaker") -> None:
        done = xm.create(guest("echo marker=one", name="logged"))
        assert (xm.domain_folder("logged") / "console.log").read_bytes() == done.stdout
        assert b"marker=one" in done.stdout

    def test_input_from_a_pipe_arrives_whole(self, xm: "Xm", guest: "GuestMaker") -> None:
        """The guest reads late, so that all of it has to wait somewhere."""
        size = 300_000
        data = bytes(33 + i * 7919 % 90 for i in range(size))
        config = guest(
            "dmesg -n 1; stty raw -echo < /dev/console; echo ready; sleep 1;"
            f" echo sum=$(head -c {size} < /dev/console | md5sum)"
        )
        with xm.conversation(config) as talk:
            talk.wait_for("ready")
            talk.say(data)
            done = talk.finish(timeout_s=30)
        assert done.facts()["sum"].split()[0] == hashlib.md5(data).hexdigest()


def test_clocks_go_at_the_hosts_rate(xm: "Xm", guest: "GuestMaker", program: "Callable[[str], Path]") -> None:
    """The guest is asked the time before and after three seconds of sleep; the answers' own delays are counted."""
    config = guest(
        "dmesg -n 1; { read a; echo $a; sleep 3; echo slept > /dev/console; read b; echo $b; } | /clocks",
        programs={"clocks": program("clocks")},
    )
    with xm.conversation(config) as talk:

        def ask() -> tuple[float, float, float, float, float]:
            """Seconds: host's monotonic clock before and after; guest's monotonic, real clock; host's real clock."""
            before = time.monotonic()
            talk.say(b"now\n")
            words = talk.wait_for("clocks ").split()
            return before, time.monotonic(), int(words[1]) / 1e9, int(words[2]) / 1e9, time.time()

        talk.wait_for("clocks ready")
        early, early_end, mono_1, real_1, host_1 = ask()
        talk.wait_for("slept")
        late, late_end, mono_2, real_2, host_2 = ask()
        assert talk.finish().status == 0
    least, most = late - early_end, late_end - early
    assert least > 2.5
    for passed in (mono_2 - mono_1, real_2 - real_1):
        assert least * 0.98 <= passed <= most * 1.02
    assert abs(real_1 - host_1) < early_end - early + 0.5
    assert abs(real_2 - host_2) < late_end - late + 0.5


CHOICE = """
echo booted
read -r word < /dev/console
case $word in again) reboot -f;; crash) echo c > /proc/sysrq-trigger;; esac
"""


def check_report(text: str) -> None:
    """What a developer needs first of a crashed guest."""
    for part in (
        "rip 0xffffffff",
        "rsp 0xffff",
        "cr2 ",
        "r15 ",
        "Kernel panic - not syncing: sysrq triggered crash",
    ):
        assert part in text
    stack = [line for line in text.splitlines() if line.lstrip().startswith("? 0xffffffff")]
    assert len(stack) > 5
    calls = re.findall(r"^ +(\w+)\(0x.*\) = .* at 0x[0-9a-f]+$", text, re.M)
    assert len(calls) > 5
    assert calls[-1] == "sched_op"


def boots(done: "Finished") -> int:
    return done.lines.count("booted")


class Test_the_end:
    def test_reboot_destroys_if_told(self, xm: "Xm", guest: "GuestMaker") -> None:
        done = xm.create(guest("echo booted; reboot -f", on_reboot="destroy"))
        assert (done.status, boots(done), done.stderr) == (0, 1, "")

    def test_reboot_boots_again(self, xm: "Xm", guest: "GuestMaker") -> None:
        with xm.conversation(guest(CHOICE, on_reboot="restart")) as talk:
            for word in ("again", "again", "enough"):
                talk.wait_for("booted")
                talk.say(f"{word}\n".encode())
            done = talk.finish()
        assert (done.status, boots(done), done.stderr) == (0, 3, "")

    def test_a_panic_leaves_a_report(self, xm: "Xm", guest: "GuestMaker") -> None:
        done = xm.create(guest("echo c > /proc/sysrq-trigger", name="panics"))
        assert done.status == 1
        (report,) = xm.domain_folder("panics").glob("crash-*.txt")
        assert str(report) in done.sentence()
        check_report(report.read_text())

    def test_a_panic_boots_again_if_told(self, xm: "Xm", guest: "GuestMaker") -> None:
        with xm.conversation(guest(CHOICE, name="panics", on_crash="restart")) as talk:
            for word in ("crash", "enough"):
                talk.wait_for("booted")
                talk.say(f"{word}\n".encode())
            done = talk.finish()
        assert (done.status, boots(done)) == (0, 2), done.stderr
        (report,) = xm.domain_folder("panics").glob("crash-*.txt")
        check_report(report.read_text())

    def test_halt_ends_too(self, xm: "Xm", guest: "GuestMaker") -> None:
        done = xm.create(guest("halt -f"))
        assert done.status == 0


@pytest.mark.slow
def test_a_hundred_boots_in_a_row(xm: "Xm", guest: "GuestMaker") -> None:
    config = guest("echo booted; dmesg | grep -c -E 'WARNING|BUG'", extra="quiet oops=panic panic_on_warn=1")
    for number in range(100):
        done = xm.create(config)
        assert (done.status, boots(done)) == (0, 1), (number, done.stderr, done.lines[-40:])


@pytest.mark.slow
def test_a_hundred_reboots_in_one_process(xm: "Xm", guest: "GuestMaker") -> None:
    with xm.conversation(guest(CHOICE, on_reboot="restart")) as talk:
        for word in ["again"] * 99 + ["enough"]:
            talk.wait_for("booted")
            talk.say(f"{word}\n".encode())
        done = talk.finish()
    assert (done.status, boots(done)) == (0, 100)
