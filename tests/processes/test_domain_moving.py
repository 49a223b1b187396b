"""A domain on its way from one real process to another: it runs in one of them, and in no moment in two."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.processes.test_domain import BRIEF, DISK, XVDA
from tests.unit.domain.process_kit import Started, Xend, configuration, kernel, start
from xenion.dom0.block import locks
from xenion.domain.devices import DeviceOrder
from xenion.domain.process import EXIT_REFUSED
from xenion.vmm.written import SWITCH

Start = Callable[..., Started]

TALKS = "jmp _start"
"""Never stops: whether it runs is to be seen in its log."""
BY: dict[str, Any] = {"by": "1", "disks": [], "vifs": []}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Start]:
    """A process in a folder of that name."""
    with ExitStack() as opened:

        def run(name: str, end: str = TALKS, words: str = "tick\n", **values: Any) -> Started:
            keys = ("paused", "constants", "devices", "saved", "arriving")
            options = {key: values.pop(key) for key in keys if key in values}
            (tmp_path / name).mkdir()
            config = configuration(kernel(end, words), **values)
            return opened.enter_context(start(tmp_path / name, config, **options))

        yield run


class Far:
    """The far end of a stream: what has come, and that it is over."""

    def __init__(self) -> None:
        self.ours, self._theirs = socket.socketpair()
        self._data = bytearray()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        with self._theirs:
            while data := self._theirs.recv(1 << 16):
                self._data += data

    def all_of_it(self) -> bytes:
        self.ours.close()
        self._thread.join(60)
        return bytes(self._data)


def migrate(domain: Started, **fields: Any) -> bytes:
    """Until its guest is held, and all has been sent."""
    far = Far()
    try:
        begin(domain.xend, far.ours, "done", **fields)
    finally:
        data = far.all_of_it()
    return data


def begin(xend: Xend, stream: socket.socket, answered: str, **fields: Any) -> Any:
    """The answer to a migration whose other end has everything at once."""
    number = xend.begin("migrate", fds=[stream.fileno()], **{**BY, "live": True, **fields})
    xend.done("echo", number=1 << 40)
    return xend.answer(number)[answered]


def stream_of(run: Start, end: str = TALKS, *, live: bool = True, **values: Any) -> bytes:
    """Of a guest that has ended here."""
    domain = run("source", end, **values)
    domain.until("running")
    if not values.get("paused"):
        until_it_talks(domain)
    data = migrate(domain, live=live)
    domain.xend.done("finish-save", reason="migrated")
    assert domain.end() == 0
    return data


def size(domain: Started) -> int:
    return (domain.folder / "log").stat().st_size


def until_it_talks(domain: Started) -> None:
    before = size(domain)
    domain.wait_for(lambda: size(domain) > before)


def kinds(domain: Started) -> list[str]:
    """Of its journal, but for the rounds that have come."""
    return [kind for kind in domain.kinds() if kind != "echo"]


def is_silent(domain: Started) -> bool:
    """It does not run: what it has said before may still have to be written."""
    for _ in range(20):
        domain.xend.ask("trim", through=0)
    before = size(domain)
    for _ in range(200):
        domain.xend.ask("trim", through=0)
    return size(domain) == before


def is_armed(domain: Started) -> bool:
    pytest.importorskip("pyseccomp", exc_type=ImportError)
    return "Seccomp:\t2" in Path(f"/proc/{domain.process.pid}/status").read_text()


class Sender:
    """Who sends a stream, as slowly as the test wants."""

    def __init__(self) -> None:
        self.theirs, self._ours = socket.socketpair()

    def send(self, data: bytes) -> None:
        self._ours.sendall(data)

    def close(self) -> None:
        self._ours.close()


def target(run: Start, data: bytes | None, **values: Any) -> tuple[Started, Sender]:
    """That has got so much, and no more comes; None: the test sends."""
    sender = Sender()
    options = {"name": "target", "arriving": True, **values}
    with sender.theirs:
        domain = run(options.pop("name"), saved=sender.theirs.fileno(), **options)
    if data is not None:
        with suppress(BrokenPipeError, ConnectionResetError):
            sender.send(data)
        sender.close()
    return domain, sender


# --- from one to the other


@pytest.mark.parametrize("method", ["", "digests"])
def test_a_guest_that_runs(run: Start, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Sandbox and all, and whatever way there is to know what it has written."""
    monkeypatch.setenv(SWITCH, method)
    source = run("source")
    source.until_armed()
    until_it_talks(source)
    data = migrate(source)
    assert is_silent(source)
    figures = [message["figures"] for message in source.xend.told if "figures" in message]
    assert figures[0]["round"] == 1
    assert figures[0]["pages"] > 20
    assert figures[-1] == {"held": 1}

    there, _ = target(run, data)
    there.until("loaded")
    assert is_armed(there)
    assert kinds(there) == ["loaded"]
    assert is_silent(there)

    source.xend.done("release")
    assert there.xend.done("arrive") == {}
    until_it_talks(there)
    assert is_silent(source)
    assert source.xend.done("finish-save", reason="migrated") == {"saved": True}
    assert source.end() == 0
    ended = source.entry("ended")
    assert (ended["reason"], ended["action"]) == ("migrated", "destroy")
    assert kinds(there) == ["loaded", "running", "resized"]
    assert there.xend.done("arrive") == {}
    until_it_talks(there)
    for each in (source, there):
        assert not each.notes()
        assert not (each.folder / "process.log").read_text()


def test_straight_from_one_to_the_other(run: Start) -> None:
    """Each round is waited for until it is there."""
    source = run("source")
    source.until("running")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        there = run("target", saved=theirs.fileno(), arriving=True)
        waiting = source.xend.begin("migrate", fds=[ours.fileno()], **BY, live=True)
    there.until("echo")
    assert is_silent(there)
    before = size(source)
    until_it_talks(source)
    assert size(source) > before, "it is not held before it is told"
    number = 0
    while "loaded" not in there.kinds():
        if there.entry("echo")["number"] > number:
            number = there.entry("echo")["number"]
            source.xend.done("echo", number=number)
        there.xend.ask("trim", through=0)
    echoes = [entry["number"] for entry in there.entries() if entry["kind"] == "echo"]
    assert echoes == list(range(1, number + 1))
    assert source.xend.answer(waiting)["done"] == {"remarks": []}
    there.xend.done("arrive")
    until_it_talks(there)
    assert is_silent(source)


def test_again_and_again(run: Start) -> None:
    """One that has come goes on to the next."""
    data = stream_of(run)
    for name in ("second", "third"):
        domain, _ = target(run, data, name=name)
        domain.xend.done("arrive")
        until_it_talks(domain)
        data = migrate(domain)
        domain.xend.done("finish-save", reason="migrated")
        assert domain.end() == 0


def test_one_that_is_held_anyway(run: Start) -> None:
    """By xend: it is not let go because it has moved."""
    data = stream_of(run, "poweroff", paused=True)
    there, _ = target(run, data, end="poweroff", paused=True)
    there.xend.done("arrive")
    assert there.entry("running")["paused"] is True
    assert is_silent(there)
    there.xend.done("unpause")
    assert there.end() == 0
    assert there.entry("ended")["reason"] == "poweroff"
    assert there.log == "tick\n"


def test_a_reboot_there_is_a_boot(run: Start) -> None:
    data = stream_of(run, "reboot", paused=True)
    there, _ = target(run, data, end="reboot", constants=BRIEF)
    there.xend.done("arrive")
    there.until("running", 3)
    assert [entry["boot"] for entry in there.entries() if entry["kind"] == "running"][:3] == [1, 2, 3]
    assert there.kinds().count("loaded") == 1


def test_one_out_of_a_file_waits_for_nobody(run: Start, tmp_path: Path) -> None:
    data = stream_of(run, live=False)
    (tmp_path / "saved").write_bytes(data)
    with (tmp_path / "saved").open("rb") as file:
        there = run("target", saved=file.fileno())
    there.until("running")
    until_it_talks(there)
    assert there.kinds()[0] == "running"
    assert there.xend.done("arrive") == {}


def test_one_that_boots_is_there_already(run: Start) -> None:
    domain = run("source")
    assert domain.xend.done("arrive") == {}


# --- who waits


def test_nothing_runs_before_all_of_it_is_there(run: Start) -> None:
    """Whoever has asked for it early is answered when it runs."""
    data = stream_of(run)
    there, sender = target(run, None)
    waiting = there.xend.begin("arrive")
    sender.send(data[:-1])
    assert is_silent(there)
    assert kinds(there) == []
    there.wait_for(lambda: is_armed(there))  # before anything of it is believed
    sender.send(data[-1:])
    assert there.xend.answer(waiting)["done"] == {}
    assert kinds(there)[:2] == ["loaded", "running"]
    sender.close()
    until_it_talks(there)


def test_what_it_cannot_be_asked_yet(run: Start) -> None:
    data = stream_of(run)
    there, _ = target(run, data)
    there.until("loaded")
    for word in ("pause", "unpause", "vcpus"):
        assert "is being built" in there.xend.refused(word)
    for word in ("release", "migrate", "save"):
        there.xend.refused(word, **BY)
    assert there.xend.done("finish-save") == {"saved": False}
    assert there.xend.done("devices") == {"devices": []}
    there.xend.done("cancel-migrate")
    there.xend.done("rename", name="other")
    assert kinds(there) == ["loaded"]
    there.xend.done("arrive")
    there.wait_for(lambda: there.xenstored.read("/local/domain/7/name") == b"other")


def test_xends_come_and_go(run: Start) -> None:
    data = stream_of(run)
    there, sender = target(run, None)
    there.xend.close()
    sender.send(data)
    sender.close()
    there.xend = there.another_xend()
    there.until("loaded")
    for _ in range(3):
        there.xend.close()
        there.xend = there.another_xend()
    assert is_silent(there)
    there.xend.begin("arrive")
    there.xend.close()
    there.xend = there.another_xend()
    there.until("running")
    until_it_talks(there)
    assert there.kinds().count("running") == 1


@pytest.mark.parametrize("when", ["coming", "loaded"])
def test_the_store_dies_before_it_goes_on(run: Start, when: str) -> None:
    data = stream_of(run)
    there, sender = target(run, None)
    if when == "coming":
        there.xenstored.kill()
    sender.send(data)
    sender.close()
    if when == "loaded":
        there.until("loaded")
        there.xenstored.kill()
    with there.xenstored.connections() as fds:
        there.xend.done("store", fds=fds)
    there.xend.done("rename", name="other")
    there.xend.done("arrive")
    until_it_talks(there)
    there.wait_for(lambda: there.xenstored.read("/local/domain/7/name") == b"other")


def test_several_ask_at_once(run: Start) -> None:
    data = stream_of(run)
    there, _ = target(run, data)
    there.until("loaded")
    other = there.another_xend()
    waiting = other.begin("arrive")
    for _ in range(3):
        assert there.xend.done("arrive") == {}
    assert other.answer(waiting)["done"] == {}
    other.close()
    assert there.kinds().count("running") == 1


# --- it never arrives


@pytest.mark.parametrize("part", [0, 0.5, 1])
def test_destroyed_before_it_goes_on(run: Start, part: float) -> None:
    data = stream_of(run)
    there, sender = target(run, None)
    sender.send(data[: int(len(data) * part)])
    if part == 1:
        there.until("loaded")
    there.xend.begin("destroy")
    assert there.end() == 0
    sender.close()
    assert kinds(there) == ["loaded"] * (part == 1) + ["ended", "leaving"]
    assert there.entry("ended")["reason"] == "destroyed"


@pytest.mark.parametrize("part", [0, 5, 100, 0.5, 0.999])
def test_a_stream_that_breaks_off(run: Start, part: float) -> None:
    data = stream_of(run)
    there, _ = target(run, data[: int(part if part > 1 else len(data) * part)])
    assert there.end() == EXIT_REFUSED
    text = there.entry("refused")["text"]
    assert text.startswith("the saved domain cannot go on: it is ")
    assert kinds(there) == ["refused", "leaving"]


@pytest.mark.parametrize("at", [0, 8, 100, 0.3, 0.7])
def test_a_stream_that_was_changed(run: Start, at: float) -> None:
    data = bytearray(stream_of(run))
    data[int(at if at > 1 else len(data) * at)] ^= 1
    there, _ = target(run, bytes(data))
    assert there.end() == EXIT_REFUSED
    assert "the saved domain cannot go on: it is " in there.entry("refused")["text"]


def test_one_that_is_larger_than_xend_has_made_room_for(run: Start) -> None:
    data = stream_of(run)
    there, _ = target(run, data, memory_mib=12)
    assert there.end() == EXIT_REFUSED
    assert "the saved domain cannot go on: " in there.entry("refused")["text"]


def test_who_asked_for_one_that_never_comes_hears_the_end(run: Start) -> None:
    data = stream_of(run)
    there, sender = target(run, None)
    there.xend.begin("arrive")
    sender.send(data[:-10])
    sender.close()
    assert there.end() == EXIT_REFUSED
    with suppress(EOFError):
        while message := there.xend.message():
            assert "done" not in message


# --- it stays where it was


class Stuck:
    """A stream that takes nothing until it is let go."""

    def __init__(self) -> None:
        self.ours, self._theirs = socket.socketpair()
        self.ours.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self.ours.send(bytes(4096))
        self.ours.setblocking(True)

    def let_go(self) -> None:
        self.ours.close()
        while self._theirs.recv(1 << 16):
            pass
        self._theirs.close()


def test_cancelled_it_goes_on(run: Start) -> None:
    """While it is copied: nobody reads."""
    source = run("source")
    source.until("running")
    stuck = Stuck()
    waiting = source.xend.begin("migrate", fds=[stuck.ours.fileno()], **BY, live=True)
    assert source.xend.done("cancel-migrate") == {}
    until_it_talks(source)
    assert "being saved or moved already" in source.xend.refused("migrate", fds=[stuck.ours.fileno()], **BY)
    stuck.let_go()
    assert "cancelled" in source.xend.answer(waiting)["error"]
    until_it_talks(source)
    assert migrate(source)


def test_who_reads_goes_away(run: Start) -> None:
    source = run("source")
    source.until("running")
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        assert "Broken pipe" in begin(source.xend, ours, "error")
    until_it_talks(source)


def test_a_guest_that_is_not_to_be_held_so_long(run: Start) -> None:
    source = run("source")
    source.until("running")
    until_it_talks(source)
    far = Far()
    why = begin(source.xend, far.ours, "error", worst_ms=0)
    far.all_of_it()
    assert why.startswith("the domain stays here: its guest would stand still")
    until_it_talks(source)


def test_xend_is_lost_before_the_release(run: Start) -> None:
    source = run("source")
    source.until("running")
    migrate(source)
    assert is_silent(source)
    source.xend.close()
    source.xend = source.another_xend()
    until_it_talks(source)
    assert "has gone on" in source.xend.refused("release")
    assert source.xend.done("finish-save") == {"saved": False}
    until_it_talks(source)


def test_xend_is_lost_after_the_release(run: Start) -> None:
    """Nobody but the next one knows where it runs."""
    source = run("source")
    source.until("running")
    migrate(source)
    source.xend.done("release")
    source.xend.close()
    source.xend = source.another_xend()
    source.xend.done("cancel-migrate")
    assert is_silent(source)
    assert source.xend.done("finish-save", keep=True) == {"saved": True}
    until_it_talks(source)


def test_its_disks_are_anothers_meanwhile(run: Start, tmp_path: Path) -> None:
    """It keeps them locked until it is released, and does not go on without them."""
    (tmp_path / "image").write_bytes(bytes(1 << 20))
    with (tmp_path / "image").open("r+b") as image, (tmp_path / "image").open("r+b") as other:
        locks.take(image.fileno(), writable=True)
        order = DeviceOrder(XVDA["kind"], XVDA["devid"], DISK, {}, (image.fileno(),))
        source = run("source", devices=[order])
        image.close()
        source.until("running")
        migrate(source)
        with pytest.raises(locks.InUseError):
            locks.take(other.fileno(), writable=True)
        source.xend.done("release")
        locks.take(other.fileno(), writable=True)
        for _ in range(2):
            why = source.xend.refused("finish-save", keep=True)
            assert why == "vbd 51712: another domain uses it"
            assert is_silent(source)
        locks.give_back(other.fileno())
        assert source.xend.done("finish-save", keep=True) == {"saved": True}
        until_it_talks(source)
        with pytest.raises(locks.InUseError):
            locks.take(other.fileno(), writable=True)


def test_a_guest_that_ends_while_it_is_copied(run: Start) -> None:
    source = run("source", "poweroff", paused=True)
    source.until("running")
    stuck = Stuck()
    waiting = source.xend.begin("migrate", fds=[stuck.ours.fileno()], **BY, live=True)
    source.xend.done("unpause")
    source.until("ended")
    stuck.let_go()
    assert source.xend.answer(waiting)["error"] == "the domain cannot be moved: its guest has stopped"
    assert source.end() == 0
    assert source.entry("ended")["reason"] == "poweroff"
    assert not (source.folder / "process.log").read_text()


def test_nothing_is_left_of_one_that_came_to_nothing(run: Start) -> None:
    source = run("source")
    source.until_armed()
    before = source.descriptors()
    for _ in range(3):
        ours, theirs = socket.socketpair()
        with ours:
            theirs.close()
            begin(source.xend, ours, "error")
        migrate(source)
        source.xend.done("cancel-migrate")
    assert source.descriptors() == before
    maps = Path(f"/proc/{source.process.pid}/smaps").read_text()
    flags = [line.split() for line in maps.splitlines() if line.startswith("VmFlags:")]
    assert not any("uw" in line for line in flags), "a watch goes on"
