"""A domain's life as its owner sees it: started, listed, asked to stop, paused, renamed, and what follows each end."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from elftools.elf.elffile import ELFFile

from tests.system.xm import wait_for
from xenion.api.console import attach

if TYPE_CHECKING:
    from tests.system.conftest import GuestMaker, Kernel
    from tests.system.xm import Xm

OBEDIENT = """
mkdir -p /sbin
for word in poweroff reboot; do printf '#!/bin/sh\\nexec /bin/%s -f\\n' $word > /sbin/$word; chmod +x /sbin/$word; done
echo cmdline=$(cat /proc/cmdline)
echo up
while read -r word < /dev/console; do
  case $word in crash) echo c > /proc/sysrq-trigger;; *) echo answer $word;; esac
done
"""
"""A guest that powers off and reboots when it is asked to, and crashes when it is told to."""


class Domain:
    """One that `xm create` or `xm start` has started."""

    def __init__(self, xm: "Xm", name: str) -> None:
        self._xm = xm
        self.name = name

    @property
    def facts(self) -> dict[str, Any]:
        (found,) = self._xm.json("list", self.name)
        return dict(found)

    @property
    def state(self) -> str:
        return str(self.facts["state"])

    @property
    def log(self) -> str:
        return (
            (self._xm.domain_folder(self.name) / "console.log").read_text(errors="replace").replace("\r", "")
        )

    def says(self, text: str, times: int = 1) -> None:
        """Waits until it has."""
        wait_for(lambda: self.log.count(text) >= times)

    def type(self, words: str) -> None:
        with attach(Path(self.facts["console"]), -1).stream as stream:
            stream.sendall(words.encode())


def exists(xm: "Xm", name: str) -> bool:
    return name in [domain["name"] for domain in xm.json("list")]


@pytest.fixture
def start(xm: "Xm") -> Iterator[Callable[..., Domain]]:
    """`xm create` in the background; what is left at the end is destroyed."""

    def create(config: Path, *words: str) -> Domain:
        done = xm.run("create", "--json", config, *words)
        assert done.status == 0, done.stderr
        return Domain(xm, json.loads(done.stdout)["name"])

    yield create
    for domain in xm.json("list"):
        if domain["domid"]:
            assert xm.run("destroy", str(domain["domid"])).status == 0


Start = Callable[..., Domain]


class Test_a_linux_guest:
    def test_powers_off_when_it_is_asked_to(self, xm: "Xm", guest: "GuestMaker", start: Start) -> None:
        domain = start(guest(OBEDIENT, name="obedient"))
        domain.says("up\n")
        done = xm.run("shutdown", "-w", "obedient")
        assert done.status == 0, done.stderr
        wait_for(lambda: not exists(xm, "obedient"))
        assert "reboot: " in domain.log

    def test_reboots_when_it_is_asked_to(self, xm: "Xm", guest: "GuestMaker", start: Start) -> None:
        domain = start(guest(OBEDIENT, name="obedient", on_reboot="restart"))
        domain.says("up\n")
        assert xm.run("reboot", "-w", "obedient").status == 0
        domain.says("up\n", times=2)
        assert domain.facts["boots"] == 2

    def test_takes_a_new_configuration_at_its_next_boot(
        self, xm: "Xm", guest: "GuestMaker", start: Start
    ) -> None:
        domain = start(guest(OBEDIENT, name="obedient", on_reboot="restart"))
        domain.says("up\n")
        changed = guest(OBEDIENT, name="obedient", on_reboot="restart", extra="quiet marker=7", memory=160)
        done = xm.run("config-update", "obedient", changed)
        assert done.status == 0, done.stderr
        assert xm.run("reboot", "-w", "obedient").status == 0
        domain.says("up\n", times=2)
        assert "marker=7" in domain.log
        assert domain.facts["memory_mib"] == 160

    def test_hears_sysrq_and_nmi(self, xm: "Xm", guest: "GuestMaker", start: Start) -> None:
        domain = start(guest(OBEDIENT, name="obedient", extra="loglevel=8"))
        domain.says("up\n")
        assert xm.run("sysrq", "obedient", "h").status == 0
        domain.says("sysrq: HELP")
        assert xm.run("trigger", "obedient", "nmi").status == 0
        domain.says("NMI received for unknown reason")
        refused = xm.run("trigger", "obedient", "reset")
        assert refused.status == 1
        assert "paravirtualised" in refused.sentence()

    def test_stands_still_while_it_is_paused(self, xm: "Xm", guest: "GuestMaker", start: Start) -> None:
        domain = start(guest("while :; do echo tick; usleep 20000; done", name="ticking"))
        domain.says("tick\n", times=3)
        assert xm.run("pause", "ticking").status == 0
        assert domain.state == "paused"
        before = ""
        while (now := domain.log) != before:  # what was in the ring comes out still
            before = now
            time.sleep(0.3)
        time.sleep(0.5)
        assert domain.log == before
        refused = xm.run("shutdown", "ticking")
        assert refused.status == 1
        assert "paused" in refused.sentence()
        assert xm.run("unpause", "ticking").status == 0
        domain.says("tick\n", times=before.count("tick\n") + 3)

    def test_that_crashes_is_followed_by_another_and_kept(
        self, xm: "Xm", guest: "GuestMaker", start: Start
    ) -> None:
        domain = start(guest(OBEDIENT, name="lost", on_crash="rename-restart"))
        domain.says("up\n")
        first = domain.facts
        domain.type("crash\n")
        wait_for(lambda: exists(xm, "lost") and domain.facts["uuid"] != first["uuid"])
        listed = xm.json("list")
        (kept,) = [each for each in listed if each["name"].startswith("lost-")]
        assert (kept["state"], kept["uuid"], kept["domid"]) == ("crashed", first["uuid"], first["domid"])
        assert domain.facts["domid"] != first["domid"]
        domain.says("up\n")
        assert xm.run("destroy", kept["name"]).status == 0

    def test_that_crashes_leaves_a_core_and_boots_again(
        self, xm: "Xm", guest: "GuestMaker", start: Start
    ) -> None:
        domain = start(guest(OBEDIENT, name="dumps", on_crash="coredump-restart"))
        domain.says("up\n")
        for number in (1, 2):
            domain.type("crash\n")
            domain.says("up\n", times=number + 1)
        wait_for(lambda: len(list(xm.domain_folder("dumps").glob("core-*"))) == 2)
        for core in xm.domain_folder("dumps").glob("core-*"):
            with core.open("rb") as file:
                assert ELFFile(file).header["e_type"] == "ET_CORE"
        assert len(list(xm.domain_folder("dumps").glob("crash-*.txt"))) == 2

    def test_is_dumped_alive(self, xm: "Xm", guest: "GuestMaker", start: Start) -> None:
        domain = start(guest(OBEDIENT, name="alive"))
        domain.says("up\n")
        core = xm.folder / "alive.core"
        for flags in ([], ["-L"]):
            done = xm.run("dump-core", *flags, "alive", core)
            assert done.status == 0, done.stderr
            with core.open("rb") as file:
                assert ELFFile(file).header["e_type"] == "ET_CORE"
            assert core.stat().st_mode & 0o777 == 0o600
        domain.type("word\n")
        domain.says("answer word")
        assert xm.run("dump-core", "-C", "alive", core).status == 0
        wait_for(lambda: not exists(xm, "alive"))


def test_gdb_opens_a_core(xm: "Xm", tiny_kernel: "Kernel", start: Start) -> None:
    gdb = shutil.which("gdb")
    if gdb is None:
        pytest.skip("gdb is not here: install gdb")
    kernel = tiny_kernel("wait", "hello\n")
    domain = start(xm.config("alive", kernel=kernel, memory=16))
    domain.says("hello\n")
    core = xm.folder / "alive.core"
    assert xm.run("dump-core", "alive", core).status == 0
    shown = subprocess.run(
        [gdb, "-nx", "-batch", "-ex", "x/6cb &words", "-ex", "info registers rip", str(kernel), str(core)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "104 'h'" in shown.stdout, shown.stdout + shown.stderr
    assert re.search(r"rip +0xffffffff8", shown.stdout), shown.stdout


class Test_an_end:
    def test_that_is_preserved(self, xm: "Xm", tiny_kernel: "Kernel", start: Start) -> None:
        domain = start(
            xm.config("stays", kernel=tiny_kernel("crash", "hello\n"), memory=16, on_crash="preserve")
        )
        wait_for(lambda: domain.state == "crashed")
        assert xm.run("domstate", "stays").console.strip() == "crashed (crash)"
        with attach(Path(domain.facts["console"])).stream as stream:
            assert stream.recv(100) == b"hello\n"
        assert xm.run("pause", "stays").status == 1
        core = xm.folder / "stays.core"
        assert xm.run("dump-core", "stays", core).status == 0
        assert core.exists()
        assert xm.run("destroy", "stays").status == 0
        assert not exists(xm, "stays")

    def test_that_dumps_a_core(self, xm: "Xm", tiny_kernel: "Kernel") -> None:
        kernel = tiny_kernel("crash", "hello\n")
        done = xm.create(xm.config("dumps", kernel=kernel, memory=16, on_crash="coredump-destroy"))
        assert done.status == 1
        (core,) = xm.domain_folder("dumps").glob("core-*")
        with core.open("rb") as file:
            assert ELFFile(file).get_section_by_name(".xen_pages") is not None
        assert not exists(xm, "dumps")

    def test_that_powers_off_may_be_preserved_too(
        self, xm: "Xm", tiny_kernel: "Kernel", start: Start
    ) -> None:
        config = xm.config("off", kernel=tiny_kernel("poweroff"), memory=16, on_poweroff="preserve")
        domain = start(config)
        wait_for(lambda: domain.state == "shutdown")
        assert domain.facts["reason"] == "poweroff"


class Test_starting:
    def test_paused_runs_nothing_before_unpause(self, xm: "Xm", tiny_kernel: "Kernel", start: Start) -> None:
        domain = start(xm.config("held", kernel=tiny_kernel("wait", "hello\n"), memory=16), "-p")
        assert domain.state == "paused"
        assert domain.log == ""
        used = domain.facts["cpu_seconds"]
        assert [domain.facts["cpu_seconds"] for _ in range(3)] == [used] * 3
        assert domain.log == ""
        assert xm.run("unpause", "held").status == 0
        domain.says("hello\n")

    def test_in_the_foreground_waits_for_the_end(self, xm: "Xm", tiny_kernel: "Kernel") -> None:
        done = xm.run("create", "-F", "-q", xm.config(kernel=tiny_kernel("poweroff", "hello\n"), memory=16))
        assert (done.status, done.stdout) == (0, b"")
        crashed = xm.run("create", "-F", "-q", xm.config(kernel=tiny_kernel("crash"), memory=16))
        assert crashed.status == 1
        assert "crashed" in crashed.sentence()

    def test_ids_count_on(self, xm: "Xm", tiny_kernel: "Kernel", start: Start) -> None:
        kernel = tiny_kernel("wait", "hello\n")
        ids = []
        for _ in range(3):
            domain = start(xm.config("again", kernel=kernel, memory=16))
            ids.append(domain.facts["domid"])
            assert xm.run("domid", "again").console.strip() == str(ids[-1])
            assert xm.run("domname", str(ids[-1])).console.strip() == "again"
            assert xm.run("destroy", str(ids[-1])).status == 0
        assert ids == sorted(set(ids))

    def test_two_of_one_uuid(self, xm: "Xm", tiny_kernel: "Kernel", start: Start) -> None:
        chosen = "9f3c2a8e-0d5b-4b6e-9c1a-2f7d8e6b5a41"
        kernel = tiny_kernel("wait", "hello\n")
        domain = start(xm.config("one", kernel=kernel, memory=16, uuid=chosen))
        assert domain.facts["uuid"] == chosen
        second = xm.run("create", xm.config("two", kernel=kernel, memory=16, uuid=chosen))
        assert second.status == 2
        assert chosen in second.sentence()

    def test_old_and_new_configuration_files_start_the_same_guest(
        self, xm: "Xm", tiny_kernel: "Kernel", start: Start
    ) -> None:
        samples = Path(__file__).parents[1] / "unit" / "config" / "samples"
        kernel, seen = tiny_kernel("wait", "hello\n"), []
        ramdisk = xm.folder / "initrd.img"
        ramdisk.write_bytes(b"\x1f\x8b" + bytes(100))
        for name in ("xen-3.0.cfg", "xl.cfg"):
            same = (
                "ramdisk=",
                "disk=[]",
                "vif=[]",
                "nics=0",
                "maxmem=128",
                "maxvcpus=2",
            )  # the last two, only one has
            domain = start(samples / name, f"kernel={kernel}", *same, "-q")
            domain.says("hello\n")
            facts = domain.facts
            seen.append({key: facts[key] for key in ("name", "memory_mib", "vcpus", "config")})
            seen[-1]["config"].pop("uuid")
            seen[-1]["config"].pop("notes")
            assert xm.run("destroy", domain.name).status == 0
        assert seen[0] == seen[1]


class Test_a_managed_domain:
    def test_is_defined_started_stopped_and_forgotten(self, xm: "Xm", tiny_kernel: "Kernel") -> None:
        config = xm.config("kept", kernel=tiny_kernel("wait", "hello\n"), memory=16)
        assert xm.run("new", config).status == 0
        domain = Domain(xm, "kept")
        assert (domain.state, domain.facts["domid"]) == ("defined", None)
        assert xm.run("start", "kept").status == 0
        uuid = domain.facts["uuid"]
        assert domain.state in ("running", "blocked")
        assert xm.run("delete", "kept").status == 1
        assert xm.run("destroy", "kept").status == 0
        xm.stop_xend()
        assert (domain.state, domain.facts["uuid"]) == ("defined", uuid)
        assert xm.run("rename", "kept", "other").status == 0
        assert xm.run("delete", "other").status == 0
        assert not exists(xm, "other")

    def test_is_started_with_the_host_once(self, xm: "Xm", tiny_kernel: "Kernel") -> None:
        kernel = tiny_kernel("wait", "hello\n")
        config = xm.config("first", kernel=kernel, memory=16, on_xend_start="start", on_xend_stop="destroy")
        assert xm.run("new", config).status == 0
        xm.stop_xend()
        (xm.run_folder / "xenion" / "autostarted.json").unlink()  # as if the host had been started anew
        domain = Domain(xm, "first")
        wait_for(lambda: domain.state in ("running", "blocked"))
        assert xm.run("destroy", "first").status == 0
        xm.stop_xend()
        assert domain.state == "defined"
        assert xm.run("start", "first").status == 0
        xm.stop_xend()
        assert domain.state == "defined"


class Test_xend:
    def test_is_killed_and_comes_back_to_its_domains(
        self, xm: "Xm", tiny_kernel: "Kernel", start: Start
    ) -> None:
        kernel = tiny_kernel("wait", "hello\n")
        domains = [start(xm.config(f"d{number}", kernel=kernel, memory=16)) for number in range(3)]
        assert xm.run("pause", "d1").status == 0
        before = [domain.facts for domain in domains]
        xend = xm.xend()
        assert xend is not None
        os.kill(xend, signal.SIGKILL)
        os.kill(before[2]["pid"], signal.SIGKILL)
        after = [domain.facts for domain in domains[:2]]
        for key in ("name", "domid", "uuid", "pid", "state", "started_at", "boots"):
            assert [facts[key] for facts in after] == [facts[key] for facts in before[:2]]
        assert not exists(xm, "d2")
        with attach(Path(after[0]["console"])).stream as stream:
            assert stream.recv(100) == b"hello\n"
        entries = [json.loads(line) for line in xm.run("log", "--json").lines]
        assert [entry["domain"] for entry in entries if entry["action"] == "gone"] == ["d2"]
        assert len([entry for entry in entries if entry["action"] == "booted"]) == 3

    def test_tells_where_it_is(self, xm: "Xm") -> None:
        info = xm.json("info")
        assert info["xend_pid"] == xm.xend()
        assert Path(info["xend_socket"]).is_socket()
        assert info["nr_cpus"] == os.cpu_count()
        assert "xenstore_socket" in info

    def test_lists_the_host_first(self, xm: "Xm") -> None:
        listed = xm.run("list").lines
        assert listed[0].split() == ["Name", "ID", "Mem", "VCPUs", "State", "Time(s)"]
        assert listed[1].split()[:2] == ["Domain-0", "0"]
        assert listed[1].split()[3:5] == [str(os.cpu_count()), "r-----"]
