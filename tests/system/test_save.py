"""xm save and xm restore: guests that know nothing of it go on where they were, and nothing is lost when it fails."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.system.disk_guest import DebianGuest, Image
from tests.system.machines import alone, machines
from tests.system.ticking import TICKS, names, spinning, ticks, wait_for_more
from tests.system.xm import wait_for

if TYPE_CHECKING:
    from tests.system.conftest import GuestMaker, Kernel
    from tests.system.xm import Xm


@pytest.mark.parametrize("how", [(), ("-s",)], ids=["suspended", "as it stands"])
@pytest.mark.parametrize("machine", machines())
def test_a_busy_guest_goes_on(
    xm: "Xm", guest: "GuestMaker", machine: dict[str, Any], how: tuple[str, ...]
) -> None:
    """Several times; it has counted on without a gap, computes rightly, and hears what xenstore tells it."""
    assert xm.run("create", "-q", guest(TICKS, name="busy", memory=160, **machine)).status == 0
    file = xm.folder / "busy.sav"
    wait_for_more(xm, "busy")
    for _ in range(3):
        done = xm.run("save", *how, "busy", file)
        assert (done.status, done.console, done.stderr) == (0, f"The domain is in {file}\n", "")
        assert names(xm) == []
        before = len(ticks(xm, "busy"))
        done = xm.run("restore", file)
        assert (done.status, done.console) == (0, f"busy goes on from {file}\n"), done.stderr
        wait_for_more(xm, "busy")
        assert len(ticks(xm, "busy")) > before
    numbers = [number for number, _ in ticks(xm, "busy")]
    assert numbers == list(range(1, len(numbers) + 1))
    assert "wrong" not in xm.console_log("busy")
    assert [vcpu["state"] != "offline" for vcpu in xm.json("vcpu-list", "busy")] == [True] * machine.get(
        "vcpus", 1
    )
    assert xm.run("sysrq", "busy", "h").status == 0, "its watch on control/sysrq is set again"
    wait_for(lambda: "sysrq: HELP" in xm.console_log("busy"))
    assert xm.run("destroy", "busy").status == 0


AWAY_S = 6


def saved_for_a_while(xm: "Xm", *how: str) -> tuple[int, int, float]:
    """Seconds by which the guest's clock and its uptime went on while it was away for AWAY_S, and for which it may have
    run before and after that."""
    wait_for_more(xm, "busy")
    file, began = xm.folder / "file", time.monotonic()
    assert xm.run("save", *how, "busy", file).status == 0
    count = len(clocks(xm))
    away = time.monotonic()
    wait_for(lambda: time.monotonic() > away + AWAY_S)
    back = time.monotonic()
    assert xm.run("restore", file).status == 0
    wait_for(lambda: len(clocks(xm)) > count + 5)
    ran = away - began + time.monotonic() - back
    before, after = clocks(xm)[count - 1], clocks(xm)[count + 5]
    return after[0] - before[0], after[1] - before[1], ran


def clocks(xm: "Xm") -> list[tuple[int, int]]:
    lines = (line.split() for line in xm.console_log("busy").split("\n")[:-1] if line.startswith("tick "))
    return [(int(now), int(uptime)) for _, _, uptime, now in lines]


@pytest.mark.parametrize("machine", alone())
def test_its_clock_is_right_afterwards(xm: "Xm", guest: "GuestMaker", machine: dict[str, Any]) -> None:
    """If it suspends itself; as it stands, time has stood still."""
    assert xm.run("create", "-q", guest(TICKS, name="busy", **machine)).status == 0
    clock, uptime, _ = saved_for_a_while(xm)
    assert clock >= AWAY_S
    assert uptime >= AWAY_S
    assert abs(clocks(xm)[-1][0] - time.time()) < 3
    clock, uptime, ran = saved_for_a_while(xm, "-s")
    assert clock <= ran + 2
    assert uptime <= ran + 2
    assert xm.run("destroy", "busy").status == 0


def test_paused_it_stays_as_it_is(xm: "Xm", guest: "GuestMaker") -> None:
    assert xm.run("create", "-q", guest(TICKS, name="busy")).status == 0
    wait_for_more(xm, "busy")
    assert xm.run("save", "busy", xm.folder / "file").status == 0
    said = xm.console_log("busy")
    assert xm.run("restore", "-p", xm.folder / "file").status == 0
    assert xm.run("domstate", "busy").console == "paused\n"
    told = (json.loads(line) for line in xm.run("log", "--json").lines)
    log_of = [entry for entry in told if entry.get("domain") == "busy"]
    assert [entry["detail"] for entry in log_of if entry["action"] == "ended"] == ["saved: destroy"]
    assert not [entry for entry in log_of if entry["result"] in ("failed", "refused")]
    assert [entry["result"] for entry in log_of if entry["action"] == "restore"][-1:] == ["done"]
    assert xm.console_log("busy") == said
    assert xm.run("unpause", "busy").status == 0
    wait_for_more(xm, "busy")
    assert xm.run("destroy", "busy").status == 0


def test_a_checkpoint_leaves_it_running(xm: "Xm", guest: "GuestMaker") -> None:
    assert xm.run("create", "-q", guest(TICKS, name="busy")).status == 0
    wait_for_more(xm, "busy")
    file = xm.folder / "file"
    assert xm.run("save", "-c", "busy", file).status == 0
    wait_for_more(xm, "busy")
    assert "already" in xm.run("restore", file).sentence()
    assert xm.run("destroy", "busy").status == 0
    later = ticks(xm, "busy")[-1][0]
    assert xm.run("restore", file).status == 0
    count = len(ticks(xm, "busy"))
    wait_for(lambda: len(ticks(xm, "busy")) > count)
    assert ticks(xm, "busy")[count][0] <= later, "it goes on from the checkpoint"
    assert xm.run("destroy", "busy").status == 0


def test_a_managed_domain_is_suspended(xm: "Xm", guest: "GuestMaker") -> None:
    """By a command, and when xend is stopped; it is not started from its beginning by mistake."""
    assert xm.run("new", guest(TICKS, name="busy", on_xend_stop="suspend")).status == 0
    assert xm.run("start", "busy").status == 0
    for way in ("suspend", "stop"):
        wait_for_more(xm, "busy")
        if way == "suspend":
            assert xm.run("suspend", "busy").status == 0
        else:
            xm.stop_xend()
        assert xm.run("domstate", "busy").console == "suspended\n"
        assert "is suspended: `xm resume busy`" in xm.run("start", "busy").sentence()
        before = len(ticks(xm, "busy"))
        assert xm.run("resume", "busy").console == "busy goes on\n"
        wait_for(lambda count=before: len(ticks(xm, "busy")) > count)  # type: ignore[misc]
    numbers = [number for number, _ in ticks(xm, "busy")]
    assert numbers == list(range(1, len(numbers) + 1))
    assert "running already" in xm.run("resume", "busy").sentence()
    assert xm.run("suspend", "busy").status == 0
    assert xm.run("start", "--anew", "busy").status == 0
    wait_for(lambda: bool(ticks(xm, "busy")))
    assert ticks(xm, "busy")[0][0] == 1
    assert xm.run("destroy", "busy").status == 0
    assert "is not suspended" in xm.run("resume", "busy").sentence()
    assert xm.run("delete", "busy").status == 0


# --- under another id

ASKS = """
mkdir -p /sbin; printf '#!/bin/sh\\nexec /bin/reboot -f\\n' > /sbin/reboot; chmod +x /sbin/reboot
dmesg -n 1
n=0
while :; do
  n=$((n+1)); /xenstore r=domid r=/local/domain/1/domid r=control/platform-feature-xs_reset_watches d=device
  echo "tick $n $(cut -d. -f1 /proc/uptime) 0"; sleep 0.1
done
"""


def taken(xm: "Xm", tiny_kernel: "Kernel", domid: int) -> None:
    """By a domain of another xend, as after a restart of the host."""
    xm.stop_xend()
    wait_for(lambda: xm.xend() is None)
    (xm.run_folder / "xenion" / "next-domid.json").write_text(str(domid))
    spinning(xm, tiny_kernel, f"other{domid}")


def domids(xm: "Xm") -> dict[str, int]:
    return {domain["name"]: domain["domid"] for domain in xm.json("list") if domain["domid"] != 0}


def test_where_its_id_is_taken_it_gets_the_next_one(
    xm: "Xm", guest: "GuestMaker", program: Callable[[str], Path], tiny_kernel: "Kernel"
) -> None:
    """And goes on believing in the one that it had, until it boots."""
    file, programs = xm.folder / "busy.sav", {"xenstore": program("xenstore")}
    config = guest(ASKS, programs=programs, name="busy", on_reboot="restart")
    assert xm.run("create", "-q", config).status == 0
    for domid in (1, 2):
        wait_for_more(xm, "busy")
        assert xm.run("save", "busy", file).status == 0
        taken(xm, tiny_kernel, domid)
        assert xm.run("restore", file).status == 0
        assert domids(xm)["busy"] == domid + 1
        assert xm.run("sysrq", "busy", "h").status == 0
        wait_for(lambda count=domid: xm.console_log("busy").count("sysrq: HELP") == count)  # type: ignore[misc]
        wait_for_more(xm, "busy", 20)  # one that ends within a second is not booted again
    asked = [line for line in xm.console_log("busy").splitlines() if line.startswith("r=")]
    assert {line for line in asked if "domid" in line} == {"r=domid -> 1", "r=/local/domain/1/domid -> 1"}
    assert not [line for line in asked if "error" in line]
    assert xm.run("reboot", "-w", "busy").status == 0
    wait_for(lambda: "r=domid -> 3\nr=/local/domain/1/domid -> error EACCES" in xm.console_log("busy"))
    assert sorted(domids(xm).items()) == [("busy", 3), ("other1", 1), ("other2", 2)]
    for name in names(xm):
        assert xm.run("destroy", name).status == 0


def test_ballooned_memory_and_cpus_stay(xm: "Xm", guest: "GuestMaker") -> None:
    config = guest(TICKS, name="busy", memory=128, maxmem=256, vcpus=2, maxvcpus=4)
    assert xm.run("create", "-q", config).status == 0
    wait_for_more(xm, "busy")
    assert xm.run("mem-set", "busy", "192").status == 0
    assert xm.run("vcpu-set", "busy", "1").status == 0

    def sizes() -> tuple[int, int]:
        (found,) = (domain for domain in xm.json("list") if domain["name"] == "busy")
        online = sum(vcpu["state"] != "offline" for vcpu in xm.json("vcpu-list", "busy"))
        return found["memory_mib"], online

    wait_for(lambda: sizes() == (192, 1))
    assert xm.run("save", "busy", xm.folder / "file").status == 0
    assert xm.run("restore", xm.folder / "file").status == 0
    assert sizes() == (192, 1)
    wait_for_more(xm, "busy")
    assert xm.run("mem-set", "busy", "256").status == 0
    wait_for(lambda: sizes() == (256, 1))
    assert xm.run("destroy", "busy").status == 0


# --- what goes wrong


@pytest.fixture
def saved(xm: "Xm", tiny_kernel: "Kernel") -> Path:
    """A file; its domain is gone."""
    spinning(xm, tiny_kernel, "tiny")
    file = xm.folder / "tiny.sav"
    assert xm.run("save", "tiny", file).status == 0
    return file


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda data: data[:-300], "it is cut off"),
        (lambda data: data[: len(data) // 2], "it is cut off"),
        (lambda data: data[:3], "it is not a saved domain"),
        (lambda data: b"", "it is not a saved domain"),
        (lambda data: b"\x7fELF" + data[4:], "it is not a saved domain"),
        (lambda data: data[:8] + b"\x09" + data[9:], "it is of version 9"),
        (lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:], "it is damaged"),
        (lambda data: data[: len(data) // 2] + b"XX" + data[len(data) // 2 + 2 :], "damaged"),
    ],
    ids=["end", "half", "start", "empty", "other", "newer", "head", "memory"],
)
def test_a_spoilt_file_is_refused(xm: "Xm", saved: Path, spoil: Callable[[bytes], bytes], why: str) -> None:
    saved.write_bytes(spoil(saved.read_bytes()))
    done = xm.run("restore", saved)
    assert done.status != 0
    assert why in done.sentence()
    assert names(xm) == []
    assert not any(folder for folder in (xm.run_folder / "xenion" / "domains").iterdir() if folder.is_dir())


def test_a_file_that_is_none(xm: "Xm") -> None:
    for target, why in (
        (xm.folder / "missing", "No such file"),
        (xm.folder, "directory"),
        (Path("/dev/null"), "saved domain"),
    ):
        assert why in xm.run("restore", target).sentence()


def test_no_room_for_the_file(xm: "Xm", tiny_kernel: "Kernel") -> None:
    """What was there is there still, and the domain goes on."""
    if os.geteuid():
        pytest.skip("only root may mount a small file system")
    small = xm.folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "small", small], check=True)
    try:
        (small / "file").write_text("another one")
        spinning(xm, tiny_kernel, "tiny")
        assert "No space left on device" in xm.run("save", "tiny", small / "file").sentence()
        assert [path.read_text() for path in small.iterdir()] == ["another one"]
        assert xm.run("domstate", "tiny").console == "running\n"
        assert xm.run("destroy", "tiny").status == 0
    finally:
        subprocess.run(["umount", small], check=True)


def test_where_no_file_can_be(xm: "Xm", tiny_kernel: "Kernel") -> None:
    spinning(xm, tiny_kernel, "tiny")
    assert "no ordinary file" in xm.run("save", "tiny", "/dev/full").sentence()
    assert "No such file" in xm.run("save", "tiny", xm.folder / "missing" / "file").sentence()
    assert names(xm) == ["tiny"]
    assert xm.run("domstate", "tiny").console == "running\n"
    assert xm.run("destroy", "tiny").status == 0


def test_through_a_pipe(xm: "Xm", guest: "GuestMaker") -> None:
    """From one xm to another, without a file that anybody sees; it has counted on without a gap."""
    assert xm.run("create", "-q", guest(TICKS, name="busy", memory=160)).status == 0
    wait_for_more(xm, "busy")
    for _ in range(2):
        saving = xm.start("save", "busy", "-")
        assert saving.stdout
        assert saving.stderr
        restoring = xm.start("restore", "-", stdin=saving.stdout.fileno())
        saving.stdout.close()
        out, err = restoring.communicate(timeout=60)
        assert (restoring.returncode, out) == (0, b"busy goes on from standard input\n"), err
        said = saving.stderr.read()
        assert (saving.wait(), said) == (0, b"xm: the domain is in what was written to standard output\n")
        saving.stderr.close()
        wait_for_more(xm, "busy")
    numbers = [number for number, _ in ticks(xm, "busy")]
    assert numbers == list(range(1, len(numbers) + 1))
    assert xm.run("destroy", "busy").status == 0


def test_a_pipe_that_is_not_read_to_its_end(xm: "Xm", guest: "GuestMaker") -> None:
    """Its domain goes on, whether the reader has it cut off or never began."""
    assert xm.run("create", "-q", guest(TICKS, name="busy", memory=160)).status == 0
    wait_for_more(xm, "busy")
    saving = xm.start("save", "busy", "-")
    assert saving.stdout
    begun = saving.stdout.read(100_000)
    saving.stdout.close()
    assert saving.stderr
    assert b"nobody reads the pipe any more; it goes on" in saving.stderr.read()
    saving.stderr.close()
    assert saving.wait() == 1
    wait_for_more(xm, "busy")
    refused = xm.run("restore", "-", given=begun)
    assert "standard input: it is cut off" in refused.stderr
    kept = Path(refused.stderr.splitlines()[0].rpartition(" ")[2])
    assert kept.read_bytes() == begun, "whoever sent it may have no other"
    kept.unlink()
    assert "standard input: it is not a saved domain" in xm.run("restore", "-", given=b"").sentence()
    assert xm.run("destroy", "busy").status == 0


def test_an_xend_that_dies_leaves_it_running(xm: "Xm", guest: "GuestMaker") -> None:
    """Wherever the save is by then."""
    assert xm.run("create", "-q", guest(TICKS, name="busy", memory=160)).status == 0
    wait_for_more(xm, "busy")
    for number in range(6):
        save = xm.start("save", "busy", xm.folder / "file")
        with save:
            deadline = time.monotonic() + 0.03 * number
            wait_for(lambda until=deadline: time.monotonic() >= until)  # type: ignore[misc]
            pid = xm.xend()
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            save.communicate(timeout=60)
        if names(xm):
            wait_for_more(xm, "busy")
        else:
            assert xm.run("restore", xm.folder / "file").status == 0
        assert names(xm) == ["busy"]
    numbers = [number for number, _ in ticks(xm, "busy")]
    assert numbers == list(range(1, len(numbers) + 1)), "it never ran twice from one place, nor lost a moment"
    assert list(xm.folder.glob("file.*.part")) == []
    assert xm.run("destroy", "busy").status == 0


def test_an_xend_that_dies_leaves_it_running_or_suspended(xm: "Xm", guest: "GuestMaker") -> None:
    assert xm.run("new", guest(TICKS, name="busy", memory=160)).status == 0
    assert xm.run("start", "busy").status == 0
    wait_for_more(xm, "busy")
    for number in range(6):
        suspend = xm.start("suspend", "busy")
        with suspend:
            deadline = time.monotonic() + 0.05 + 0.06 * number
            wait_for(lambda until=deadline: time.monotonic() >= until)  # type: ignore[misc]
            pid = xm.xend()
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            suspend.communicate(timeout=60)
        assert xm.run("list").status == 0
        state = xm.domain_folder("busy")
        if xm.run("domstate", "busy").console != "suspended\n":
            wait_for(lambda: not (state / "suspended.saved").exists())  # noqa: B023
        elif xm.run("resume", "busy").status:
            wait_for(lambda: xm.run("domstate", "busy").console == "suspended\n")
            assert xm.run("resume", "busy").status == 0
        wait_for_more(xm, "busy")
    numbers = [number for number, _ in ticks(xm, "busy")]
    assert numbers == list(range(1, len(numbers) + 1)), "it never ran twice from one place, nor lost a moment"
    assert xm.run("destroy", "busy").status == 0
    assert xm.run("delete", "busy").status == 0


# --- disks and networks


@pytest.fixture
def native(xm: "Xm", debian_guest: Image) -> Iterator[DebianGuest]:
    made = DebianGuest(xm, debian_guest, "mobile")
    yield made
    made.end()


WRITES = """
cd /var/tmp && head -c 8000000 /dev/urandom > seed && md5sum < seed > sum
cat > /var/tmp/writes <<'END'
n=0
while [ ! -e /var/tmp/stop ]; do
  n=$((n+1)); cp seed copy$((n % 4)) && sync && echo 3 > /proc/sys/vm/drop_caches
  md5sum < copy$((n % 4)) | cmp - sum || echo wrong >> trouble
  echo $n > count.new && mv count.new count
done
END
systemd-run -q --unit writes --working-directory=/var/tmp sh /var/tmp/writes
"""


def reached(guest: DebianGuest) -> bool:
    """By ssh; the other end of its network is new and has to find it first."""
    try:
        return guest.attempt("true")[0] == 0
    except AssertionError:
        return False


def check_untroubled(guest: DebianGuest) -> None:
    """It has read what it wrote, and its kernel has nothing to say."""
    assert guest.attempt("cat /var/tmp/trouble")[0] != 0
    troubles = "I/O error|EXT4-fs error|rcu.*stall|lockup|hung task|unstable"
    assert guest.run(f"dmesg | grep -iE '{troubles}' || echo none") == "none"


@pytest.mark.parametrize("machine", machines(2)[1:])
def test_disks_and_networks_go_on(native: DebianGuest, machine: dict[str, Any]) -> None:
    """In the middle of writing to an overlay; the guest is reached again at once."""
    xm, file = native.xm, native.xm.folder / "mobile.sav"
    native.boot(**machine)
    native.run(WRITES)
    count = 0
    for _ in range(3):
        wait_for(lambda: int(native.run("cat /var/tmp/count 2>/dev/null || echo 0")) > count)  # noqa: B023
        count = int(native.run("cat /var/tmp/count"))
        native.hang_up_ssh()
        done = xm.run("save", native.name, file)
        assert done.status == 0, done.stderr
        done = xm.run("restore", file)
        assert done.status == 0, done.stderr
        wait_for(lambda: reached(native))
    wait_for(lambda: int(native.run("cat /var/tmp/count")) > count + 1)
    native.run("touch /var/tmp/stop; while systemctl -q is-active writes; do sleep 0.1; done")
    check_untroubled(native)
    assert "via 10.0.2.2" in native.run("ip route show default")
    native.hang_up()
    assert xm.run("shutdown", "--wait", native.name, timeout_s=120).status == 0
    wait_for(lambda: names(xm) == [])


def went_on(guest: DebianGuest, writes: int) -> int:
    """How often it has written, more than so often."""
    wait_for(lambda: int(guest.run("cat /var/tmp/count 2>/dev/null || echo 0")) > writes + 1)
    return int(guest.run("cat /var/tmp/count"))


def test_disks_and_networks_go_on_under_another_id(native: DebianGuest, tiny_kernel: "Kernel") -> None:
    """Others can be attached and detached, it can be saved once more, and booted."""
    xm, file, image = native.xm, native.xm.folder / "mobile.sav", native.xm.folder / "more.img"
    image.write_bytes(bytes(8 << 20))
    native.boot(vcpus=2)
    native.run(WRITES)
    count = went_on(native, 0)
    for domid in (1, 2):
        native.hang_up_ssh()
        assert xm.run("save", native.name, file).status == 0
        taken(xm, tiny_kernel, domid)
        done = xm.run("restore", file)
        assert done.status == 0, done.stderr
        assert domids(xm)[native.name] == domid + 1
        wait_for(lambda: reached(native))
        count = went_on(native, count)
        with native.disk("xvdb", image, "format=raw", "access=rw") as disk:
            native.run(f"echo domain {domid} > {disk}; sync")
        assert image.read_bytes().startswith(f"domain {domid}\n".encode())
        native.detach_vif(native.attach_vif("user"))
    check_untroubled(native)
    native.hang_up()
    assert xm.run("reboot", native.name).status == 0
    native.log_in()
    native.check_running()
    assert native.facts()["boots"] == 2
    assert native.run("cat /var/tmp/sum") == native.run("md5sum < /var/tmp/seed")
    native.hang_up()
    assert xm.run("shutdown", "--wait", native.name, timeout_s=120).status == 0
    wait_for(lambda: names(xm) == ["other1", "other2"])
    for name in names(xm):
        assert xm.run("destroy", name).status == 0


def test_a_disk_that_has_changed_is_refused(xm: "Xm", native: DebianGuest) -> None:
    image, file = xm.folder / "data.img", xm.folder / "mobile.sav"
    image.write_bytes(bytes(4 << 20))
    native.boot_bare(disks=[f"format=raw, vdev=xvdb, access=rw, target={image}"])
    native.run("echo before > /dev/xvdb; sync")
    native.hang_up()
    assert xm.run("save", native.name, file).status == 0
    before = image.read_bytes()
    assert before.startswith(b"before")
    kept = image.stat()
    image.write_bytes(b"after" + before[5:])
    assert "the disk xvdb has changed since" in xm.run("restore", file).sentence()
    image.write_bytes(before)
    os.utime(image, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert xm.run("restore", file).status == 0
