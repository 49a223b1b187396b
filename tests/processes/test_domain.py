"""A domain's life in its real process, sandbox and all, as xend sees it: journal, control socket, console, files."""

import os
import select
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.unit.domain.process_kit import (
    DOMID,
    Started,
    configuration,
    kernel,
    read_all,
    read_until,
    start,
)
from xenion.api.addresses import connect
from xenion.api.console import ConsoleError
from xenion.domain.devices import DeviceOrder

Start = Callable[..., Started]

BRIEF = "process.SHORTEST_LIFE_SECONDS = 0"
"""A guest that ends at once may be restarted, too."""

NEVER_BUILT = "import threading\nprocess.open_processor = lambda name: threading.Event().wait()"

ENDLESS_DUMP = """
def endless(domain, fd, progress):
    while progress(1, 2):
        pass
    bytes(domain.memory.bytes[:4096])  # deadly if the memory has gone
    raise dumps.DumpError("the core dump was cancelled")
dumps.dump_core = endless
"""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as opened:

        def run(end: str, words: str = "", *, times: int = 1, **values: Any) -> Started:
            options = {
                name: values.pop(name) for name in ("paused", "constants", "devices") if name in values
            }
            config = configuration(kernel(end, words, times=times), **values)
            return opened.enter_context(start(tmp_path, config, **options))

        yield run


# --- the plain life


def test_a_guest_runs_and_powers_off(run: Start) -> None:
    domain = run("poweroff", "hello\n")
    assert domain.xend.hello == {"hello": 0}
    assert domain.end() == 0
    assert domain.kinds() == ["running", "ended", "leaving"]
    assert [entry["n"] for entry in domain.entries()] == [1, 2, 3]
    running, ended = domain.entry("running"), domain.entry("ended")
    assert (running["boot"], running["paused"]) == (1, False)
    assert (ended["reason"], ended["action"]) == ("poweroff", "destroy")
    assert (ended["report"], ended["core"]) == (False, False)
    assert ended["cpu_seconds"] > 0
    assert (domain.log, domain.report, domain.notes()) == ("hello\n", "", "")
    assert not (domain.folder / "process.log").read_text()


def test_what_cannot_be_built_is_refused(run: Start, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no kernel")
    config = configuration(tmp_path / "text")
    with start(tmp_path, config, constants="process.LOOK_SECONDS = 0.1") as domain:
        assert domain.end() == 2
        assert domain.kinds() == ["refused", "leaving"]
        assert str(tmp_path / "text") in domain.entry("refused")["text"]


def test_one_that_is_paused_at_first_waits(run: Start) -> None:
    domain = run("poweroff", "hello\n", paused=True)
    assert domain.until("running")["paused"]
    domain.xend.done("pause")  # it is, already
    assert domain.log == ""
    domain.xend.done("unpause")
    assert domain.end() == 0
    assert domain.kinds() == ["running", "unpaused", "ended", "leaving"]
    assert domain.log == "hello\n"


@pytest.mark.parametrize("end", ["spin", "wait"])
def test_pause_and_unpause(run: Start, end: str) -> None:
    domain = run(end)
    domain.until("running")
    for _ in range(2):
        domain.xend.done("pause")
    for _ in range(2):
        domain.xend.done("unpause")
    domain.xend.done("pause")
    assert domain.kinds() == ["running", "paused", "unpaused", "paused"]


def test_xend_is_told_of_each_entry_and_may_come_back(run: Start) -> None:
    domain = run("spin", paused=True)
    domain.until("running")
    domain.xend.done("unpause")
    domain.until("unpaused")
    domain.xend.close()
    domain.xend = domain.another_xend()
    assert domain.xend.hello == {"hello": 2}
    for n, word in ((3, "pause"), (4, "unpause")):
        domain.xend.done(word)
        assert domain.xend.told[-1] == {"journal": n}, "before the answer"


def test_a_kept_journal_is_trimmed_and_its_numbers_go_on(run: Start) -> None:
    domain = run("spin", paused=True)
    domain.until("running")
    assert domain.xend.done("trim", through=0) == {"trimmed": False}
    assert domain.xend.done("trim", through=1) == {"trimmed": True}
    assert domain.entries() == []
    domain.xend.done("unpause")
    assert [entry["n"] for entry in domain.entries()] == [2]


# --- its end, by xend


@pytest.mark.parametrize("paused", [False, True])
def test_destroyed_while_it_runs(run: Start, paused: bool) -> None:
    domain = run("spin", paused=paused, on_crash="coredump-restart")
    domain.until("running")
    domain.xend.done("destroy")
    assert domain.end() == 0
    assert domain.kinds() == ["running", "ended", "leaving"]
    assert domain.entry("ended")["reason"] == "destroyed"


def test_destroyed_while_it_is_built(run: Start) -> None:
    domain = run("spin", constants=NEVER_BUILT)
    assert "being built" in domain.xend.refused("pause")
    assert "being built" in domain.xend.refused("dump", fds=[0])
    domain.xend.done("destroy")
    assert domain.end() == 0
    assert domain.kinds() == ["ended", "leaving"]


def test_destroyed_twice(run: Start) -> None:
    domain = run("spin")
    domain.until("running")
    domain.xend.begin("destroy")
    domain.xend.begin("destroy")
    assert domain.end() == 0
    assert domain.kinds() == ["running", "ended", "leaving"]


# --- its end, by itself


@pytest.mark.parametrize(
    ("end", "reason", "status"), [("poweroff", "poweroff", 0), ("reboot", "reboot", 0), ("crash", "crash", 1)]
)
def test_destroy(run: Start, end: str, reason: str, status: int) -> None:
    domain = run(end, "last words\n", on_reboot="destroy")
    assert domain.end() == status
    assert domain.kinds() == ["running", "ended", "leaving"]
    ended = domain.entry("ended")
    assert (ended["reason"], ended["action"], ended["core"]) == (reason, "destroy", False)
    assert ended["report"] == bool(domain.report) == (reason == "crash")
    assert reason != "crash" or "last words" in domain.report


def test_restart(run: Start) -> None:
    domain = run("crash", on_crash="restart", constants=BRIEF)
    domain.until("running", 3)
    assert domain.kinds()[:4] == ["running", "ended", "running", "ended"]
    boots = [entry for entry in domain.entries() if entry["kind"] == "running"]
    assert [entry["boot"] for entry in boots] == list(range(1, len(boots) + 1))


def test_one_that_ends_at_once_is_not_restarted(run: Start) -> None:
    domain = run("reboot")
    assert domain.end() == 0
    assert domain.kinds() == ["running", "ended", "leaving"]
    assert "not restarted" in domain.notes()
    assert domain.entry("ended")["action"] == "destroy"


@pytest.mark.parametrize(("action", "constants"), [("preserve", ""), ("rename-restart", BRIEF)])
def test_preserve(run: Start, action: str, constants: str) -> None:
    domain = run("crash", "last words\n", on_crash=action, constants=constants)
    assert domain.until("preserved")["action"] == action
    assert domain.kinds() == ["running", "ended", "preserved"]
    attached = domain.attach()
    with attached.stream:
        assert read_until(attached.stream, b"\n") == b"last words\n"
        for word in ("pause", "unpause"):
            assert "has stopped" in domain.xend.refused(word)
        fd = domain.new_file("asked")
        domain.xend.done("dump", fds=[fd])
        os.close(fd)
        assert (domain.folder / "asked").read_bytes()[:4] == b"\x7fELF"
        domain.xend.done("rename", name="other")
        domain.xend.done("destroy")
        assert read_all(attached.stream) == b""
    assert domain.end() == 0
    assert domain.kinds()[3:] == ["ended", "leaving"]
    assert domain.entry("ended")["reason"] == "destroyed"


def test_coredump_destroy(run: Start) -> None:
    domain = run("crash", on_crash="coredump-destroy")
    assert domain.end() == 1
    ended = domain.entry("ended")
    assert (ended["report"], ended["core"]) == (True, True)
    assert (domain.folder / "core").read_bytes()[:4] == b"\x7fELF"


def test_coredump_restart_needs_a_new_spare_each_time(run: Start) -> None:
    domain = run("crash", on_crash="coredump-restart", constants=BRIEF)
    domain.until("ended", 2)
    first, second = [entry for entry in domain.entries() if entry["kind"] == "ended"][:2]
    assert (first["report"], first["core"], first["action"]) == (True, True, "coredump-restart")
    assert (second["report"], second["core"]) == (False, False)
    assert "no core was dumped: the file that was ready is in use already" in domain.notes()
    assert "no crash report was written: the file that was ready is in use already" in domain.notes()
    for kind in ("core", "report"):
        fd = domain.new_file(f"{kind}2")
        domain.xend.done(kind, fds=[fd])
        os.close(fd)
    domain.wait_for(lambda: sum(entry.get("core", False) for entry in domain.entries()) == 2)
    assert (domain.folder / "core2").read_bytes()[:4] == b"\x7fELF"
    domain.wait_for(lambda: (domain.folder / "report2").stat().st_size > 0)


def test_a_core_that_has_no_room_is_told_of(run: Start) -> None:
    domain = run("crash", on_crash="coredump-destroy", paused=True)
    with Path("/dev/full").open("wb") as full:
        domain.xend.done("core", fds=[full.fileno()])
        domain.xend.done("report", fds=[full.fileno()])
    domain.until("running")
    domain.xend.done("unpause")
    assert domain.end() == 1
    ended = domain.entry("ended")
    assert (ended["report"], ended["core"]) == (False, False)
    assert "no core was dumped" in domain.notes()
    assert "no crash report was written" in domain.notes()


def test_a_watchdog_ends_it(run: Start) -> None:
    code = "movl $1, shutdown_reason+4; hypercall 29, 6, shutdown_reason; jmp spin"
    domain = run(code, on_watchdog="destroy", on_crash="preserve")
    assert domain.end() == 1
    ended = domain.entry("ended")
    assert (ended["reason"], ended["action"], ended["report"]) == ("watchdog", "destroy", True)


def test_a_bug_of_ours_on_dom0s_thread_ends_it_with_a_report(run: Start) -> None:
    broken = "process.DomainStore.read_node = lambda self, path, then: self._loop.soon(lambda: 1 // 0)"
    domain = run("spin", constants=broken, on_crash="restart")
    domain.until("running")
    domain.xend.begin("shutdown", mode="poweroff")
    assert domain.end() == 1
    assert domain.kinds() == ["running", "ended", "leaving"]
    assert (domain.entry("ended")["action"], domain.entry("ended")["report"]) == ("destroy", True)
    assert "ZeroDivisionError" in domain.report


def test_a_bug_of_ours_without_a_guest_ends_the_process(run: Start) -> None:
    broken = NEVER_BUILT + "\nprocess.DomainProcess.destroy = lambda self: self.loop.soon(lambda: 1 // 0)"
    domain = run("spin", constants=broken)
    domain.xend.begin("destroy")
    assert domain.end() == 70
    assert "ZeroDivisionError" in (domain.folder / "process.log").read_text()


# --- another boot


def new_kernel(domain: Started, path: Path, **values: Any) -> dict[str, Any]:
    fd = os.open(path, os.O_RDONLY)
    try:
        config = configuration(path, **values).to_mapping()
        return domain.xend.ask("configure", config=config, fds=[fd])
    finally:
        os.close(fd)


def test_a_new_configuration_holds_from_the_next_boot_on(run: Start) -> None:
    domain = run("reboot", "one\n", paused=True, constants=BRIEF)
    domain.until_armed()
    open_before = sorted(domain.descriptors())
    assert "done" in new_kernel(domain, kernel("poweroff"))
    assert "done" in new_kernel(domain, kernel("spin", "two\n"), memory_mib=32)
    domain.xend.done("unpause")
    domain.until("running", 2)
    domain.wait_for(lambda: domain.log == "one\ntwo\n")
    assert domain.memories() == 1
    assert len(domain.descriptors()) == len(open_before)
    domain.xend.done("pause")
    assert domain.kinds() == ["running", "unpaused", "ended", "running", "paused"]


def test_a_new_configuration_that_cannot_boot_is_refused(run: Start, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no kernel")
    domain = run("spin")
    domain.until_armed()
    before = len(domain.descriptors())
    assert "no bzImage" in new_kernel(domain, tmp_path / "text")["error"]
    assert len(domain.descriptors()) == before


def test_a_boot_that_fails_ends_it(run: Start, tmp_path: Path) -> None:
    """Its kernel has changed since it was looked at."""
    shutil.copy(kernel("spin"), tmp_path / "kernel")
    domain = run("reboot", paused=True, constants=BRIEF)
    domain.until("running")
    assert "done" in new_kernel(domain, tmp_path / "kernel")
    (tmp_path / "kernel").write_text("no kernel")
    domain.xend.done("unpause")
    assert domain.end() == 1
    assert domain.kinds() == ["running", "unpaused", "ended", "ended", "leaving"]
    assert "could not be booted again" in domain.notes()


def test_nonsense_for_a_configuration_is_refused(run: Start) -> None:
    domain = run("spin")
    domain.until_armed()
    before = len(domain.descriptors())
    assert "must be a JSON object" in domain.xend.refused("configure", config=7, fds=[0, 0, 0])
    config = configuration(kernel("spin")).to_mapping()
    assert "0 descriptors" in domain.xend.refused("configure", config=config)
    assert "3 descriptors" in domain.xend.refused("configure", config=config, fds=[0, 0, 0])
    assert len(domain.descriptors()) == before


def test_a_new_name_is_the_one_in_a_report(run: Start) -> None:
    domain = run("crash", paused=True)
    domain.until("running")
    domain.xend.done("rename", name="other")
    assert "name must" in domain.xend.refused("rename", name="a b")
    domain.xend.done("unpause")
    assert domain.end() == 1
    assert "name other" in domain.report


# --- dumps


@pytest.mark.parametrize("live", [False, True])
def test_a_dump_with_progress(run: Start, live: bool) -> None:
    domain = run("spin")
    domain.until_armed()
    fd = domain.new_file("asked")
    number = domain.xend.begin("dump", live=live, fds=[fd])
    os.close(fd)
    assert domain.xend.answer(number) == {"id": number, "done": {"remarks": []}}
    progress = [message["progress"] for message in domain.xend.told if "progress" in message]
    assert progress[0][0] == 0
    assert (domain.folder / "asked").read_bytes()[:4] == b"\x7fELF"
    assert domain.kinds() == ["running"]
    assert "/asked" not in "".join(domain.descriptors())


def test_a_dump_that_is_cancelled(run: Start) -> None:
    domain = run("spin", constants=ENDLESS_DUMP)
    domain.until("running")
    fd = domain.new_file("asked")
    number = domain.xend.begin("dump", fds=[fd])
    assert "under way already" in domain.xend.refused("dump", fds=[fd])
    domain.xend.done("pause")
    domain.xend.begin("cancel-dump")
    assert "cancelled" in domain.xend.answer(number)["error"]
    domain.xend.done("unpause")
    assert domain.kinds() == ["running", "paused", "unpaused"]
    os.close(fd)


def test_a_dump_that_nobody_waits_for_any_more_ends(run: Start) -> None:
    domain = run("spin", constants=ENDLESS_DUMP)
    domain.until_armed()
    fd = domain.new_file("asked")
    domain.xend.begin("dump", live=True, fds=[fd])
    domain.xend.close()
    domain.xend = domain.another_xend()

    def dump_again() -> bool:
        number = domain.xend.begin("dump", live=True, fds=[fd])
        domain.xend.begin("cancel-dump")
        return "cancelled" in domain.xend.answer(number)["error"]

    domain.wait_for(dump_again)
    os.close(fd)


def test_a_guest_that_ends_leaves_its_memory_to_the_dump_under_way(run: Start) -> None:
    domain = run("poweroff", paused=True, constants=ENDLESS_DUMP)
    domain.until("running")
    fd = domain.new_file("asked")
    number = domain.xend.begin("dump", live=True, fds=[fd])
    os.close(fd)
    domain.xend.begin("unpause")
    domain.until("ended")
    for _ in range(100):
        assert domain.xend.done("trim", through=0) == {"trimmed": False}
    domain.xend.begin("cancel-dump")
    assert "cancelled" in domain.xend.answer(number)["error"]
    assert domain.end() == 0


def test_a_dump_to_nowhere_is_refused_and_the_guest_goes_on(run: Start) -> None:
    domain = run("spin")
    domain.until("running")
    with Path("/dev/full").open("wb") as full:
        assert "cannot be written" in domain.xend.refused("dump", fds=[full.fileno()])
    assert "0 descriptors" in domain.xend.refused("dump")
    domain.xend.done("pause")
    assert domain.kinds() == ["running", "paused"]


# --- what the guest is told


def test_words_for_the_guest(run: Start) -> None:
    domain = run("wait")
    domain.until("running")
    assert domain.xend.done("shutdown", mode="poweroff") == {"listens": False}
    assert "no way to shut down" in domain.xend.refused("shutdown", mode="suspend")
    assert "'mode'" in domain.xend.refused("shutdown")
    domain.xend.done("sysrq", key="s")
    for key in ("", "ss", "\n", "\ud800"):
        assert "SysRq" in domain.xend.refused("sysrq", key=key)
    domain.xend.done("nmi", vcpu=0)
    assert "no vCPU 5" in domain.xend.refused("nmi", vcpu=5)
    assert "'vcpu'" in domain.xend.refused("nmi", vcpu="x")
    domain.xend.done("pause")
    assert "unpause it first" in domain.xend.refused("shutdown", mode="poweroff")


def test_a_word_of_another_version_is_refused(run: Start) -> None:
    domain = run("wait")
    assert "does not know 'dance'" in domain.xend.refused("dance", fds=[0, 1, 2])


@pytest.mark.parametrize(
    "packet", [b"\xff\xfe{\0}\0", b"[]", b"{}", b'{"id": "x"}', b"[" * 50_000, b"\0", b"x" * 70_000]
)
def test_what_is_no_request_ends_that_connection_only(run: Start, packet: bytes) -> None:
    domain = run("wait")
    domain.until_armed()
    other = domain.another_xend()
    before = len(domain.descriptors())
    with closing(other):
        socket.send_fds(other.stream, [packet], [0] * 3)
        with pytest.raises(EOFError):
            other.message()
    domain.xend.done("pause")
    assert len(domain.descriptors()) == before - 1


# --- the log


def test_a_new_log_takes_what_comes_from_then_on(run: Start) -> None:
    domain = run("poweroff", "hello\n", paused=True)
    domain.until("running")
    fd = domain.new_file("log2")
    domain.xend.done("log", fds=[fd])
    os.close(fd)
    domain.xend.done("unpause")
    assert domain.end() == 0
    assert (domain.folder / "log2").read_text() == "hello\n"
    assert domain.log == ""


def test_a_full_log_is_told_of(run: Start) -> None:
    domain = run("poweroff", "hello\n", times=100, constants="console_log.LIMIT = 100")
    assert domain.end() == 0
    assert domain.kinds() == ["running", "log-full", "ended", "leaving"]


# --- the console


def test_every_byte_reaches_a_reader_before_the_end(run: Start) -> None:
    domain = run("poweroff", "0123456789abcde\n", times=60_000, paused=True)
    domain.until("running")
    attached = domain.attach()
    with attached.stream:
        domain.xend.done("unpause")
        assert read_all(attached.stream) == b"0123456789abcde\n" * 60_000
    assert domain.end() == 0


def test_destroyed_last_words_reach_who_reads(run: Start) -> None:
    domain = run(
        "poweroff", "0123456789abcde\n", times=30_000, on_poweroff="preserve", console_scrollback_kib=1024
    )
    domain.until("preserved")
    attached = domain.attach(0)
    with attached.stream:
        domain.xend.done("destroy")
        assert read_all(attached.stream) == b"0123456789abcde\n" * 30_000
    assert domain.end() == 0


def test_one_that_does_not_read_holds_up_no_end(run: Start) -> None:
    domain = run(
        "poweroff",
        "0123456789abcde\n",
        times=30_000,
        console_scrollback_kib=1024,
        paused=True,
        constants="process.LAST_WORDS_SECONDS = 0.1",
    )
    domain.until("running")
    with domain.attach().stream:
        domain.xend.done("unpause")
        assert domain.end() == 0


def test_one_that_never_reads_is_let_go(run: Start) -> None:
    constants = "console_server.STUCK_S = 0.05; console_server.LOOK_S = 0.01"
    domain = run("jmp _start", "0123456789abcde\n", times=100, constants=constants)
    domain.until("running")
    stuck = domain.attach()
    with stuck.stream:
        gone = select.poll()
        gone.register(stuck.stream, 0)
        assert gone.poll(60_000) == [(stuck.stream.fileno(), select.POLLHUP)]
        first = stuck.first
        came = read_all(stuck.stream)
    again = domain.attach(first + len(came))
    with again.stream:
        assert again.lost + again.first >= first + len(came)
        assert again.stream.recv(1000)


def test_a_guest_that_never_stops_talking_is_served_in_turns(run: Start) -> None:
    domain = run("jmp _start", "0123456789abcde\n", times=100)
    domain.until("running")
    for _ in range(5):
        domain.xend.done("pause")
        domain.xend.done("unpause")
    domain.xend.done("destroy")
    assert domain.end() == 0


def test_one_that_is_held_up_by_a_reader_can_be_paused(run: Start) -> None:
    domain = run("jmp _start", "0123456789abcde\n", times=100)
    domain.until("running")
    with domain.attach().stream:
        size = -1
        while size != (size := (domain.folder / "log").stat().st_size):
            domain.xend.done("pause")
            domain.xend.done("unpause")
        domain.xend.done("pause")


def test_so_many_may_attach(run: Start) -> None:
    domain = run("wait", "hello\n", constants="console_server.CLIENTS = 5")
    domain.until_armed()
    with ExitStack() as opened:
        clients = [opened.enter_context(domain.attach(0).stream) for _ in range(5)]
        with pytest.raises(ConsoleError, match="5 others are attached already"):
            domain.attach()
        for client in clients:
            assert read_until(client, b"\n") == b"hello\n"
        clients[0].close()
        domain.wait_for(lambda: sum("socket" in name for name in domain.descriptors()) == 9)
        opened.enter_context(domain.attach().stream)


GREETINGS = {
    "utf-16": b"\xff\xfe{\0}\0\n",
    "utf-32": b"\xff\xfe\0\0{\0\0\0\n",
    "no json": b"hello\n",
    "a list": b"[]\n",
    "deep": b"[" * 4000 + b"\n",
    "long": b"x" * 5000,
    "true": b'{"since": true}\n',
    "before the first": b'{"since": -2}\n',
    "a fraction": b'{"since": 1.5}\n',
    "infinite": b'{"since": 1e999}\n',
    "many digits": b'{"since": 1' + b"0" * 4050 + b'"}\n',
}


def test_hostile_greetings_are_refused(run: Start) -> None:
    domain = run("wait", "hello\n")
    domain.until_armed()
    for greeting in GREETINGS.values():
        with connect(domain.folder / "console.sock", timeout=60) as client:
            client.sendall(greeting)
            assert b'"error"' in read_all(client), greeting
    with domain.attach(0).stream as stream:
        assert read_until(stream, b"\n") == b"hello\n"


# --- devices, and the store that comes and goes


HOME = f"/local/domain/{DOMID}"
DISK = {
    "type": "file",
    "vdev": "xvda",
    "devid": 51712,
    "writable": True,
    "cdrom": False,
    "sector_bytes": 512,
    "discard": True,
    "persistent_grants": False,
    "limit_bytes": 0,
    "limit_requests": 0,
}
VIF = {
    "options": {"mac": "00:16:3e:00:00:01", "addresses": [], "queues": 2},
    "wire": {"kind": "stream", "big": True},
    "peer": "switch",
}
XVDA: dict[str, Any] = {"kind": "vbd", "devid": 51712}
FRONT = f"{HOME}/device/vbd/51712"
BACK = f"/local/domain/0/backend/vbd/{DOMID}/51712"


def attach(domain: Started, name: str = "image") -> None:
    fd = domain.new_file(name)
    try:
        os.truncate(fd, 1 << 20)
        domain.xend.done("attach", **XVDA, description=DISK, config={"target": name}, fds=[fd])
    finally:
        os.close(fd)


def until_node(domain: Started, path: str, value: bytes | None) -> None:
    domain.wait_for(lambda: domain.xenstored.read(path) == value)


def connect_again(domain: Started) -> None:
    with domain.xenstored.connections() as fds:
        domain.xend.done("store", fds=fds)


def test_a_disk_comes_and_goes(run: Start) -> None:
    domain = run("wait")
    domain.until_armed()
    before = domain.descriptors()
    for count in (1, 2, 3):
        attach(domain, f"image{count}")
        until_node(domain, f"{BACK}/state", b"2")
        assert domain.xenstored.read(f"{FRONT}/virtual-device") == b"51712"
        (told,) = domain.xend.done("devices")["devices"]
        assert (told["state"], told["size_bytes"]) == ("InitWait", 1 << 20)
        assert told["config"] == {"target": f"image{count}"}
        assert len(domain.descriptors()) == len(before) + 1
        domain.xend.done("detach", **XVDA)
        assert domain.entry("detached")["devid"] == 51712
        until_node(domain, BACK, None)
        assert domain.xenstored.read(FRONT) is None
        assert domain.descriptors() == before
    assert domain.xend.done("devices") == {"devices": []}
    assert domain.kinds() == ["running", "detached", "detached", "detached"]


def test_what_cannot_be_attached_is_refused_and_nothing_of_it_stays(run: Start) -> None:
    domain = run("wait")
    domain.until_armed()
    attach(domain)
    before = domain.descriptors()
    order = {**XVDA, "description": DISK, "config": {}}
    with (domain.folder / "other").open("wb") as other:
        fds = [other.fileno()]
        assert "there is a vbd 51712 already" in domain.xend.refused("attach", **order, fds=fds)
        assert "kind 'vtpm'" in domain.xend.refused("attach", **(order | {"kind": "vtpm"}), fds=fds)
        assert "no connection" in domain.xend.refused("reconnect-device", **XVDA, description={}, fds=fds)
        assert "no sockets" in domain.xend.refused("store", fds=fds * 2)
    for word in ("detach", "configure-device"):
        assert "no vbd 7" in domain.xend.refused(word, kind="vbd", devid=7, changes={})
    with socket.socket(socket.AF_UNIX) as stream:
        fds = [stream.fileno()]
        message = domain.xend.refused("attach", **(order | {"devid": 9}), fds=fds)
        assert "is no image" in message
    assert domain.descriptors() == before


HOSTILE = {
    "no number": {"ring-ref": b"x", "event-channel": b"1"},
    "negative": {"ring-ref": b"-1", "event-channel": b"-1"},
    "beyond 32 bits": {"ring-ref": b"4294967296", "event-channel": b"4294967296"},
    "beyond 64 bits": {"ring-ref": b"9" * 30, "event-channel": b"9" * 30},
    "beyond the tables": {"ring-ref": b"4294967295", "event-channel": b"4294967295"},
    "a high grant": {"ring-ref": b"2147483648", "event-channel": b"2"},
    "not granted": {"ring-ref": b"100", "event-channel": b"100"},
    "the console's ring": {"ring-ref": b"0", "event-channel": b"2"},
    "the store's ring": {"ring-ref": b"1", "event-channel": b"1"},
    "any bytes": {"ring-ref": bytes(range(256)), "event-channel": b"\xff\xfe"},
    "not decimal": {"ring-ref": b"\xb2\xb3", "event-channel": "٣".encode()},
    "another protocol": {"protocol": b"\xff" * 100},
    "many queues": {"multi-queue-num-queues": b"4", "queue-0/ring-ref": b"8", "queue-3/ring-ref": b"8"},
    "no queues": {"multi-queue-num-queues": b"0"},
    "many pages": {"ring-page-order": b"4", "ring-ref0": b"8", "event-channel": b"3"},
    "rings without an end": {"tx-ring-ref": b"8", "rx-ring-ref": b"8", "request-rx-copy": b"1"},
}


def test_nodes_of_a_hostile_front_end_harm_nobody(run: Start) -> None:
    """As a guest would write them, in its place: it is refused, time after time, and goes on running."""
    domain = run("wait")
    domain.until_armed()
    attach(domain)
    ours, theirs = socket.socketpair()
    with theirs:
        domain.xend.done("attach", kind="vif", devid=0, description=VIF, config={}, fds=[ours.fileno()])
        ours.close()
        fronts = {FRONT: BACK, f"{HOME}/device/vif/0": f"/local/domain/0/backend/vif/{DOMID}/0"}
        for nodes in HOSTILE.values():
            for front, back in fronts.items():
                until_node(domain, f"{back}/state", b"2")
                more = (
                    {}
                    if "vbd" in front
                    else {"request-rx-copy": b"1", "tx-ring-ref": b"8", "rx-ring-ref": b"8"}
                )
                for name, value in (more | nodes).items():
                    domain.xenstored.write(f"{front}/{name}", value)
                domain.xenstored.write(f"{front}/state", b"3")
                until_node(domain, f"{back}/state", b"5")
                assert domain.xenstored.read(f"{back}/error")
                for state, answer in ((b"6", b"6"), (b"1", b"2")):
                    domain.xenstored.write(f"{front}/state", state)
                    until_node(domain, f"{back}/state", answer)
                for name in nodes:
                    domain.xenstored.remove(f"{front}/{name}")
        domain.xend.done("detach", **XVDA)
        domain.xend.done("detach", kind="vif", devid=0)
    domain.xend.done("pause")
    assert domain.notes().count("\n") < 2 * 20


def test_the_store_dies_and_comes_back_while_the_guest_runs(run: Start) -> None:
    domain = run("wait")
    domain.until_armed()
    before = len(domain.descriptors())
    attach(domain)
    until_node(domain, f"{BACK}/state", b"2")
    for number in range(5):
        domain.xenstored.kill()
        waiting = domain.xend.begin("shutdown", mode="poweroff")
        domain.xend.done("rename", name=f"name-{number}")
        domain.xend.done("pause")
        domain.xend.done("unpause")
        connect_again(domain)
        assert domain.xend.answer(waiting)["done"] == {"listens": False}
        until_node(domain, f"{HOME}/name", b"name-%d" % number)
    domain.xenstored.write(f"{FRONT}/state", b"5")
    until_node(domain, f"{BACK}/state", b"5")  # its watch has survived
    domain.xend.done("detach", **XVDA)
    until_node(domain, FRONT, None)
    assert len(domain.descriptors()) == before


def test_connections_are_replaced_again_and_again(run: Start) -> None:
    domain = run("wait")
    domain.until_armed()
    before = len(domain.descriptors())
    for _ in range(20):
        connect_again(domain)
    domain.xend.done("rename", name="other")
    until_node(domain, f"{HOME}/name", b"other")
    assert len(domain.descriptors()) == before


def test_devices_come_and_go_while_the_store_is_away(run: Start) -> None:
    domain = run("wait")
    domain.until_armed()
    domain.xenstored.kill()
    attach(domain)
    domain.xend.done("detach", **XVDA)
    attach(domain, "again")
    connect_again(domain)
    until_node(domain, f"{BACK}/state", b"2")
    domain.xenstored.kill()
    domain.xend.done("detach", **XVDA)
    connect_again(domain)
    until_node(domain, BACK, None)


def test_a_guest_that_reboots_while_the_store_is_away_waits_for_it(run: Start) -> None:
    domain = run("reboot", paused=True, constants=BRIEF)
    domain.until_armed()
    attach(domain)
    until_node(domain, f"{BACK}/state", b"2")
    domain.xenstored.kill()
    domain.xend.done("unpause")
    domain.until("ended")
    for _ in range(20):
        assert domain.xend.done("devices")["devices"][0]["state"] in ("Unknown", "InitWait")
    assert domain.kinds().count("running") == 1
    connect_again(domain)
    domain.until("running", 2)
    domain.xend.begin("destroy")
    assert domain.end() == 0


def test_its_disks_are_there_at_each_boot(run: Start, tmp_path: Path) -> None:
    (tmp_path / "first").write_bytes(bytes(1 << 20))
    with (tmp_path / "first").open("r+b") as image:
        order = DeviceOrder("vbd", 51712, DISK, {"target": "first"}, (image.fileno(),))
        domain = run("reboot", paused=True, constants=BRIEF, devices=[order])
    domain.until_armed()
    assert domain.xenstored.read(f"{BACK}/state") == b"2"
    before = len(domain.descriptors())
    domain.xend.done("unpause")
    domain.until("running", 8)
    assert domain.xend.done("devices")["devices"][0]["config"] == {"target": "first"}
    while "error" in domain.xend.ask("pause"):  # it is between two boots
        pass
    more = len(domain.descriptors()) - before
    assert more in (0, 1), "the last boot's memory may wait to be collected, no other"


def test_a_disk_that_cannot_be_opened_refuses_the_domain(run: Start) -> None:
    reader, writer = os.pipe()
    domain = run("spin", devices=[DeviceOrder("vbd", 51712, DISK, {}, (reader,))])
    os.close(reader)
    os.close(writer)
    assert domain.end() == 2
    assert "disk xvda" in domain.entry("refused")["text"]


def test_a_guest_that_is_preserved_has_no_devices_and_takes_none(run: Start, tmp_path: Path) -> None:
    (tmp_path / "first").write_bytes(bytes(1 << 20))
    with (tmp_path / "first").open("r+b") as image:
        order = DeviceOrder("vbd", 51712, DISK, {}, (image.fileno(),))
        domain = run("crash", on_crash="preserve", devices=[order])
    domain.until("preserved")
    assert domain.xend.done("devices") == {"devices": []}
    with (tmp_path / "first").open("r+b") as image:
        refusal = domain.xend.refused("attach", **XVDA, description=DISK, config={}, fds=[image.fileno()])
    assert "stopped for good" in refusal
    assert "/first" not in "".join(domain.descriptors())
