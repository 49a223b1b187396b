"""xm migrate: guests that know nothing of it go on elsewhere, exactly once, whatever goes wrong."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from tests.system.disk_guest import DebianGuest, Image
from tests.system.hosts import Fault, Host, Line
from tests.system.images_on_host import tool
from tests.system.machines import alone, has_own_tsc, machines
from tests.system.namespaces import Namespaces, add_cable, add_link, inside, usable
from tests.system.ticking import TICKS, names, spinning, ticks, wait_for_more
from tests.system.xm import DomainProcess, wait_for

if TYPE_CHECKING:
    from tests.system.conftest import GuestMaker, Kernel

QUICK = """
dmesg -n 1
n=0
while :; do n=$((n+1)); echo "tick $n $(cut -d. -f1 /proc/uptime) $(date +%s)"; usleep 20000; done
"""
SETTLED_S = 40.0


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    made = Host(tmp_path / "here"), Host(tmp_path / "there")
    yield made
    left = [process for host in made for process in host.end_all()]
    assert not left, f"the test left processes behind: {left}"


def told(*hosts: Host, name: str) -> list[int]:
    """The numbers that a guest has told on all of them, in order."""
    return sorted(number for host in hosts if name in _logs(host) for number, _ in ticks(host, name))


def _logs(host: Host) -> list[str]:
    folder = host.domain_folder("")
    return (
        [path.name for path in folder.iterdir() if (path / "console.log").exists()] if folder.exists() else []
    )


def check_once(*hosts: Host, name: str, moves: int) -> None:
    """It has counted on, and no two of it have. A line that is on its way in the middle of a move is in two parts."""
    numbers = told(*hosts, name=name)
    assert len(numbers) == len(set(numbers)), "it has run twice"
    lost = sum(after - before - 1 for before, after in pairwise(numbers))
    assert lost <= moves, "it was set back or has lost something"


def clock(host: Host, name: str) -> int:
    """Of the guest, in the last line that is whole."""
    return int(re.findall(r"^tick \d+ \d+ (\d+)$", host.console_log(name), re.MULTILINE)[-1])


# --- moving


@pytest.mark.parametrize("how", [("--live",), ()], ids=["live", "suspended"])
@pytest.mark.parametrize("machine", machines())
def test_a_busy_guest_moves(
    hosts: tuple[Host, Host], guest: "GuestMaker", machine: dict[str, Any], how: tuple[str, ...]
) -> None:
    """There and back; it has counted on without a gap, computes rightly, and hears what xenstore tells it."""
    here, there = hosts
    assert here.run("create", "-q", guest(TICKS, name="busy", memory=160, **machine)).status == 0
    wait_for_more(here, "busy")
    for one, other in ((here, there), (there, here)):
        done = one.run("migrate", *how, "busy", other.address)
        assert done.status == 0, done.stderr
        assert f"busy runs on {other.address} as domain 1: it stood still for " in done.console
        assert (names(one), names(other)) == ([], ["busy"])
        wait_for_more(other, "busy")
        assert abs(clock(other, "busy") - time.time()) < 2
    check_once(here, there, name="busy", moves=2)
    assert "wrong" not in here.console_log("busy") + there.console_log("busy")
    assert [vcpu["state"] != "offline" for vcpu in here.json("vcpu-list", "busy")] == [True] * machine.get(
        "vcpus", 1
    )
    assert here.run("sysrq", "busy", "h").status == 0, "its watch on control/sysrq is set again"
    wait_for(lambda: "sysrq: HELP" in here.console_log("busy"))
    assert here.run("destroy", "busy").status == 0


@pytest.mark.parametrize("machine", alone())
@pytest.mark.parametrize("method", ["write protection", "digests"])
def test_memory_that_is_written_all_the_time(
    hosts: tuple[Host, Host], guest: "GuestMaker", method: str, machine: dict[str, Any]
) -> None:
    """It converges or not; what arrives is right, with ways to watch for writes that differ. -v tells of each round."""
    for host in hosts:
        if method == "digests":
            host.environment["XENION_WRITE_WATCH"] = "digests"
            host.stop_xend()
            host.wake()
    here, there = hosts
    script = """
    mkdir /kept; mount -t tmpfs work /kept
    while :; do for i in 1 2 3 4 5 6 7 8; do head -c 4000000 /dev/urandom > /kept/$i; md5sum < /kept/$i > /kept/$i.sum
    done; for i in 1 2 3 4 5 6 7 8; do md5sum < /kept/$i | cmp - /kept/$i.sum || echo wrong; done; echo turn; done
    """
    assert here.run("create", "-q", guest(script, name="busy", memory=160, **machine)).status == 0
    wait_for(lambda: "turn" in here.console_log("busy"))
    done = here.run("migrate", "--live", "-v", "busy", there.address)
    assert done.status == 0, done.stderr
    rounds = [line for line in done.lines if line.startswith("round ")]
    assert rounds, done.console
    turns = there.console_log("busy").count("turn")
    wait_for(lambda: there.console_log("busy").count("turn") > turns + 1)
    assert "wrong" not in here.console_log("busy") + there.console_log("busy")
    assert there.run("destroy", "busy").status == 0


def test_its_id_is_taken_there(hosts: tuple[Host, Host], guest: "GuestMaker", tiny_kernel: "Kernel") -> None:
    """It gets another one, and notices nothing."""
    here, there = hosts
    spinning(there, tiny_kernel, "other")
    assert here.run("create", "-q", guest(TICKS, name="busy", memory=128)).status == 0
    wait_for_more(here, "busy")
    assert "as domain 2" in here.run("migrate", "-l", "busy", there.address).console
    wait_for_more(there, "busy")
    assert there.run("sysrq", "busy", "h").status == 0
    wait_for(lambda: "sysrq: HELP" in there.console_log("busy"))
    assert there.run("destroy", "busy", "other").status == 0


def test_a_paused_one_stays_paused(hosts: tuple[Host, Host], tiny_kernel: "Kernel") -> None:
    here, there = hosts
    spinning(here, tiny_kernel, "tiny")
    assert here.run("pause", "tiny").status == 0
    assert here.run("migrate", "--live", "tiny", there.address).status == 0
    assert there.run("domstate", "tiny").console == "paused\n"
    assert there.run("unpause", "tiny").status == 0
    assert there.run("domstate", "tiny").console == "running\n"
    assert there.run("destroy", "tiny").status == 0


def test_a_definition_moves_along(hosts: tuple[Host, Host], tiny_kernel: "Kernel") -> None:
    here, there = hosts
    config = here.config("tiny", kernel=tiny_kernel("spin", "x\n"), name="tiny", memory=16)
    assert here.run("new", config).status == 0
    assert here.run("start", "tiny").status == 0
    assert here.run("migrate", "--live", "tiny", there.address).status == 0
    assert (names(here), names(there)) == ([], ["tiny"])
    assert there.run("destroy", "tiny").status == 0
    assert there.run("start", "tiny").status == 0
    assert there.run("destroy", "tiny").status == 0
    assert there.run("delete", "tiny").status == 0


def test_only_a_question(hosts: tuple[Host, Host], tiny_kernel: "Kernel") -> None:
    here, there = hosts
    spinning(here, tiny_kernel, "tiny")
    done = here.run("migrate", "--check", "tiny", there.address)
    assert (done.status, done.console) == (0, f"{there.address} would take tiny\n")
    assert (names(here), names(there)) == (["tiny"], [])
    spinning(there, tiny_kernel, "tiny")
    assert (
        'a domain "tiny" is running already'
        in here.run("migrate", "--check", "tiny", there.address).sentence()
    )
    assert here.run("destroy", "tiny").status == there.run("destroy", "tiny").status == 0


def test_slowly(hosts: tuple[Host, Host], guest: "GuestMaker") -> None:
    """40 Mbit a second."""
    here, there = hosts
    assert here.run("create", "-q", guest(TICKS, name="busy", memory=128)).status == 0
    wait_for_more(here, "busy")
    began = time.monotonic()
    done = here.run("migrate", "--live", "--resource", "40", "--json", "busy", there.address)
    sent = there_sent(done.stdout)
    assert time.monotonic() - began > 0.9 * sent / 5e6
    wait_for_more(there, "busy")
    check_once(here, there, name="busy", moves=1)
    assert there.run("destroy", "busy").status == 0


def there_sent(told: bytes) -> int:
    return int(json.loads(told)["sent_bytes"])


def test_through_tls(tmp_path: Path, tiny_kernel: "Kernel") -> None:
    """Both hosts show a certificate of one authority; without TLS nobody gets in."""
    authority, hosts = trustme.CA(), []
    for name in ("here", "there"):
        files = tmp_path / f"{name}.pem"
        authority.issue_cert(f"{name}.example").private_key_and_cert_chain_pem.write_to_path(files)
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        files.chmod(0o600)
        more = f'certificate = "{files}"\nkey = "{files}"\nca = "{tmp_path / "ca.pem"}"\n'
        hosts.append(Host(tmp_path / name, more))
    here, there = hosts
    spinning(here, tiny_kernel, "tiny")
    assert "it goes on here" in here.run("migrate", "--live", "tiny", there.address).sentence()
    done = here.run("migrate", "--live", "--ssl", "tiny", there.address)
    assert done.status == 0, done.stderr
    assert (names(here), names(there)) == ([], ["tiny"])
    assert there.run("destroy", "tiny").status == 0
    left = [process for host in hosts for process in host.end_all()]
    assert not left, f"the test left processes behind: {left}"


# --- disks and networks

WRITES = """
cd /var/tmp && head -c 4000000 /dev/urandom > seed && md5sum < seed > sum
cat > writes <<'END'
n=0
while [ ! -e stop ]; do
  n=$((n+1)); cp seed copy$((n % 4)) && sync && echo 3 > /proc/sys/vm/drop_caches
  md5sum < copy$((n % 4)) | cmp - sum || echo wrong >> trouble
  echo $n > count.new && mv count.new count
done
END
sh writes > /dev/null 2>&1 &
"""


@pytest.mark.parametrize("machine", machines(2)[1:])
def test_a_disk_of_both(hosts: tuple[Host, Host], debian_guest: Image, machine: dict[str, Any]) -> None:
    """In the middle of writing; it has what was written, on both hosts. The root is a copy: overlays stay."""
    here, there = hosts
    disk = here.folder / "disk.img"
    subprocess.run(["cp", "--sparse=always", debian_guest.disk, disk], check=True)
    guest = DebianGuest(here, debian_guest, "mobile")
    guest.boot_bare(disk=[f"format=raw, vdev=xvda, access=rw, target={disk}"], memory=256, **machine)
    guest.run(WRITES)
    count = 0
    for one, other, how in (
        (here, there, ("--live",)),
        (there, here, ("--live",)),
        (here, there, ("--as-it-stands",)),
    ):
        wait_for(lambda: int(guest.run("cat /var/tmp/count 2>/dev/null || echo 0")) > count)  # noqa: B023
        count = int(guest.run("cat /var/tmp/count"))
        guest.hang_up()
        done = one.run("migrate", *how, "mobile", other.address)
        assert done.status == 0, done.stderr
        guest.moves_to(other)
    wait_for(lambda: int(guest.run("cat /var/tmp/count")) > count + 1)
    guest.run("cd /var/tmp; touch stop; wait; sync")
    assert guest.attempt("cat /var/tmp/trouble")[0] != 0
    troubles = "I/O error|EXT4-fs error|rcu.*stall|lockup|hung task"
    if has_own_tsc(machine):
        troubles += "|unstable"
    assert guest.run(f"dmesg | grep -iE '{troubles}' || echo none") == "none"
    assert guest.run("cat /sys/devices/system/clocksource/clocksource0/current_clocksource") == "xen"
    guest.destroy()


@pytest.fixture
def data_disk(hosts: tuple[Host, Host], tiny_kernel: "Kernel") -> Callable[[str], Path]:
    """Starts a domain with a disk; its file."""
    here, _ = hosts

    def start(words: str) -> Path:
        path = here.folder / "disk.img"
        path.write_bytes(bytes(1 << 20))
        disk = f"{words}, vdev=xvda, access=rw, target={path}"
        config = here.config("tiny", kernel=tiny_kernel("spin", "x\n"), name="tiny", memory=16, disk=[disk])
        assert here.run("create", "-q", config).status == 0
        return path

    return start


def test_an_overlay_stays(hosts: tuple[Host, Host], data_disk: Callable[[str], Path]) -> None:
    here, there = hosts
    data_disk("format=raw, overlay")
    assert "overlays, cannot move yet" in here.run("migrate", "--live", "tiny", there.address).sentence()
    assert here.run("destroy", "tiny").status == 0


@pytest.mark.parametrize("word", ["offer", "commit"])
def test_another_file_of_the_same_name(
    hosts: tuple[Host, Host], data_disk: Callable[[str], Path], word: str
) -> None:
    """As it would be if the two hosts had no storage in common."""
    here, there = hosts
    path = data_disk("format=raw")

    def swap() -> None:
        path.rename(path.with_suffix(".old"))
        path.write_bytes(bytes(1 << 20))

    with Line(there, word, before=swap) as line:
        said = here.run("migrate", "--live", "tiny", line.address).sentence()
        assert "it has to be on storage that both hosts reach" in said
        path.with_suffix(".old").replace(path)
        assert (names(here), names(there)) == (["tiny"], [])
        wait_for(lambda: here.run("migrate", "--live", "tiny", there.address).status == 0)
    assert there.run("destroy", "tiny").status == 0


class Lan(Namespaces):
    """Two hosts, each with a bridge br0, on the network of the world, which is a bridge too."""

    def __init__(self) -> None:
        super().__init__("one", "two", "world")
        *self.hosts, self.world = self.names

    def make(self) -> None:
        super().make()
        add_link(self.world, "lan", "bridge", address="10.66.0.1")
        for number, name in enumerate(self.hosts, 1):
            add_link(name, "br0", "bridge", address=f"10.66.0.1{number}")
            add_cable(name, "up0", self.world, f"host{number}")
            add_link(name, "up0", bridge="br0")
            add_link(self.world, f"host{number}", bridge="lan")


@pytest.fixture
def lan() -> Iterator[Lan]:
    yield from usable(Lan())


def test_connections_survive_on_a_bridge(tmp_path: Path, debian_guest: Image, lan: Lan) -> None:
    """The world talks to the guest, wherever it is."""
    here, there = made = [
        Host(tmp_path / name, address=f"10.66.0.1{number}:8002", allow="10.66.0.0/24", before=inside(name))
        for number, name in enumerate(lan.hosts, 1)
    ]
    guest = DebianGuest(here, debian_guest, "mobile")
    disk = tmp_path / "disk.img"
    subprocess.run(["cp", "--sparse=always", debian_guest.disk, disk], check=True)
    guest.boot_bare(
        disk=[f"format=raw, vdev=xvda, access=rw, target={disk}"], vifs=["bridge=br0"], memory=256
    )
    guest.run(f"ip addr add 10.66.0.2/24 dev {guest.link(0)} && ip link set {guest.link(0)} up")
    guest.run("iperf3 -s -D; until ss -ltn | grep -q 5201; do sleep 0.1; done")
    words = [*inside(lan.world), tool("iperf3", "iperf3"), "-c", "10.66.0.2", "-t", "12", "-b", "20M", "-J"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as client:
        time.sleep(3)
        for one, other in ((here, there), (there, here)):
            guest.hang_up()
            done = one.run("migrate", "--live", "mobile", other.address)
            assert done.status == 0, done.stderr
            guest.moves_to(other)
            time.sleep(2)
        told = json.loads(client.communicate(timeout=60)[0])
    assert client.returncode == 0, told.get("error")
    assert told["end"]["sum_received"]["bytes"] > 0.8 * told["end"]["sum_sent"]["bytes"] > 0
    assert all(second["sum"]["bytes"] for second in told["intervals"][-2:])
    assert guest.run("ss -ltn | grep -c 5201") == "1"
    guest.destroy()
    left = [process for host in made for process in host.end_all()]
    assert not left, f"the test left processes behind: {left}"


# --- what goes wrong: the connection, either xend, the process that takes it


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Host, Host]]:
    folder = tmp_path_factory.mktemp("two")
    made = Host(folder / "here"), Host(folder / "there")
    yield made
    for host in made:
        host.run("destroy", "busy")
    left = [process for host in made for process in host.end_all()]
    assert not left, f"the tests left processes behind: {left}"


class Wanderer:
    """A guest that is on one of two hosts, `at`, and counts."""

    def __init__(self, hosts: tuple[Host, Host], config: Path) -> None:
        self.hosts = hosts
        self.at, self.other = hosts
        self.moves = 0
        assert self.at.run("create", "-q", config).status == 0
        wait_for_more(self.at, "busy", 3)

    def settled(self) -> Host:
        """Where it goes on, alone, when all is decided."""

        def alone() -> bool:
            for host in self.hosts:
                host.wake()
            return sorted(name for host in self.hosts for name in names(host)) == ["busy"]

        wait_for(alone, SETTLED_S)
        at = next(host for host in self.hosts if names(host))
        self.moves += 1
        if at is not self.at:
            self.at, self.other = self.other, self.at
        wait_for_more(at, "busy", 3)
        check_once(*self.hosts, name="busy", moves=self.moves)
        return at


@pytest.fixture(scope="module")
def wanderer(two: tuple[Host, Host], cloud_kernel: Path, busybox: Path) -> Wanderer:
    from tests.system.guests import ramdisk

    initrd = two[0].folder / "initrd"
    initrd.write_bytes(ramdisk(busybox, QUICK, {}))
    config = two[0].config(
        "busy", kernel=cloud_kernel, ramdisk=initrd, name="busy", memory=96, cmdline="console=hvc0"
    )
    return Wanderer(two, config)


def kill_xend(host: Host) -> Fault:
    def kill() -> None:
        pid = host.xend()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            DomainProcess(pid).wait()

    return kill


def kill_domain(host: Host) -> Fault:
    def kill() -> None:
        for process in host.domains():
            process.signal(signal.SIGKILL)
            process.wait()

    return kill


STAYS = ("offer", "accepted", "data", "sent", "loaded", "commit")
HOW = [(), ("--live",)]


@pytest.mark.parametrize("spoil", [False, True], ids=["cut", "spoilt"])
@pytest.mark.parametrize("word", [*STAYS, "arrived"])
def test_a_bad_line(wanderer: Wanderer, word: str, spoil: bool) -> None:
    """Whatever is cut or altered, it is on one of the two, and never on both."""
    source, target = wanderer.at, wanderer.other
    with Line(target, word, cut=not spoil, spoil=spoil) as line:
        done = source.run("migrate", "--live", "busy", line.address)
        assert line.struck.is_set()
        assert done.status != 0
        said = done.sentence()
        if word in ("commit", "arrived"):
            assert "whether busy runs on" in said
        else:
            assert "goes on here" in said or "does not take busy" in said
        assert wanderer.settled() is (target if word == "arrived" else source)


@pytest.mark.parametrize("word", [*STAYS, "arrived"])
def test_the_source_is_killed(wanderer: Wanderer, word: str) -> None:
    source, target = wanderer.at, wanderer.other
    with Line(target, word, before=kill_xend(source), cut=word != "arrived") as line:
        assert source.run("migrate", "--live", "busy", line.address).status != 0
        assert line.struck.is_set()
        assert wanderer.settled() is (target if word == "arrived" else source)


@pytest.mark.parametrize("word", [*STAYS, "arrived"])
def test_the_target_is_killed(wanderer: Wanderer, word: str) -> None:
    source, target = wanderer.at, wanderer.other
    with Line(target, word, before=kill_xend(target)) as line:
        done = source.run("migrate", "--live", "busy", line.address)
        assert line.struck.is_set()
        assert (done.status == 0) == (word == "arrived"), done.stderr
        assert wanderer.settled() is (target if word == "arrived" else source)


@pytest.mark.parametrize("word", ["data", "sent", "loaded", "commit"])
def test_the_process_that_takes_it_is_killed(wanderer: Wanderer, word: str) -> None:
    source, target = wanderer.at, wanderer.other
    with Line(target, word, before=kill_domain(target)) as line:
        done = source.run("migrate", "--live", "busy", line.address)
        assert line.struck.is_set()
        assert "busy" in done.sentence()
        assert wanderer.settled() is source


def test_it_is_cancelled(wanderer: Wanderer) -> None:
    """ctrl-C, in the middle of its memory."""
    source, target = wanderer.at, wanderer.other
    process = source.start("migrate", "--live", "--resource", "8", "busy", target.address)
    client = source.api()
    copying = ("running", "copying its memory")
    wait_for(lambda: copying in [(task["state"], task["step"]) for task in client.call("tasks")["tasks"]])
    client.close()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert "cancelled" in said.decode()
    assert wanderer.settled() is source


def test_nobody_is_there(wanderer: Wanderer) -> None:
    from tests.system.hosts import free_port

    source = wanderer.at
    said = source.run("migrate", "busy", f"127.0.0.1:{free_port()}").sentence()
    assert "cannot be reached" in said
    assert "it goes on here" in said
    assert wanderer.settled() is source


@pytest.mark.parametrize("goes_on", ["source", "target"])
def test_somebody_decides(wanderer: Wanderer, goes_on: str) -> None:
    """The other host is not to be asked any more: the line is down for good."""
    source, target = wanderer.at, wanderer.other
    word = "arrived" if goes_on == "target" else "commit"
    with Line(target, word, down=True) as line:
        process = source.start("migrate", "--live", "busy", line.address)
        _, said = process.communicate(timeout=60)
    assert b"whether busy runs on" in said
    time.sleep(6)
    assert names(source) == ["busy"], "it is held until somebody decides"
    assert f"busy is held: whether it runs on {line.address} is not known" in source.run("list").stderr
    done = source.run("migrate", "--resolve", goes_on, "busy")
    assert done.status == 0, done.stderr
    assert wanderer.settled() is (target if goes_on == "target" else source)
    assert "is known: there is nothing to decide" in (
        wanderer.at.run("migrate", "--resolve", "source", "busy").sentence()
    )


@pytest.mark.parametrize("rounds", [1, pytest.param(100, marks=pytest.mark.slow)])
def test_over_and_over(wanderer: Wanderer, rounds: int) -> None:
    """Kills at any moment, not only between messages."""
    import random

    chance = random.Random(rounds)
    for _ in range(3 * rounds):
        source, target = wanderer.at, wanderer.other
        victim = chance.choice([kill_xend(source), kill_xend(target), kill_domain(target)])
        process = source.start("migrate", "--live", "busy", target.address)
        time.sleep(chance.uniform(0, 1.2))
        if not (victim.__qualname__.startswith("kill_domain") and names(target)):
            victim()
        process.communicate(timeout=120)
        wanderer.settled()
