"""A user at a console: nothing is lost either way, and the terminal comes back as it was."""

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.system.terminal import Terminal
from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import Broken, FakeConsole, FakeXend, Gate, Series, domain, outcome, task
from tests.unit.xm.process import Process, terminal
from xenion.api.addresses import connect
from xenion.api.errors import ApiError


@pytest.fixture
def ended() -> Gate:
    """What the outcome is, once it is opened."""
    return Gate(outcome())


@pytest.fixture
def console(xend: FakeXend, tmp_path: Path, ended: Gate) -> Iterator[FakeConsole]:
    made = FakeConsole(tmp_path / "console.sock")
    web = domain(console=str(made.path), folder="/state/web")
    xend.answers.update(domain=web, create=task(result={"domain": web}), unpause={}, outcome=ended)
    yield made
    made.close()
    ended.open()


@pytest.fixture
def at_terminal(console: FakeConsole) -> Iterator[Callable[..., Terminal]]:
    opened = []

    def open_terminal(*words: str | Path) -> Terminal:
        opened.append(terminal(*words))
        return opened[-1]

    yield open_terminal
    for made in opened:
        made.close()


def over(stream: socket.socket, console: FakeConsole, ended: Gate) -> None:
    """The domain's process goes away."""
    console.close()
    stream.close()
    ended.open()


class Test_create:
    def test_from_the_first_byte_on(
        self, xend: FakeXend, console: FakeConsole, ended: Gate, config: Path
    ) -> None:
        process = Process("create", "-q", "-c", config)
        with console.accept() as stream:
            stream.sendall(b"hello\r\n")
            assert process.read(7) == b"hello\r\n"
            process.type(b"typed")
            assert stream.recv(99) == b"typed"
            stream.sendall(b"\xff\x00bye")
            over(stream, console, ended)
        assert process.finish() == (0, b"\xff\x00bye", "")
        assert console.wishes == [{"since": 0, "read_only": False}]
        assert xend.asked[0].body["paused"] is True
        assert xend.asked_for("unpause")[0].parameters == {"domain": "uuid-of-web"}

    def test_paused(self, xend: FakeXend, console: FakeConsole, ended: Gate, config: Path) -> None:
        process = Process("create", "-q", "-c", "-p", config)
        over(console.accept(), console, ended)
        assert process.finish() == (0, b"", "")
        assert "unpause" not in xend.actions()

    def test_paused_and_told(self, console: FakeConsole, ended: Gate, config: Path) -> None:
        config.write_text("kernel = '/boot/vmlinuz'\n")
        process = Process("create", "-c", "-p", config)
        over(console.accept(), console, ended)
        assert process.finish() == (0, b"", 'xm: web is paused: "xm unpause web" starts it\n')

    def test_of_a_domain_that_is_gone_already(
        self, xend: FakeXend, console: FakeConsole, ended: Gate, config: Path
    ) -> None:
        console.close()
        ended.open()
        assert Process("create", "-q", "-c", config).finish() == (0, b"", "")

    def test_ended_while_it_is_unpaused(
        self, xend: FakeXend, console: FakeConsole, ended: Gate, config: Path
    ) -> None:
        xend.answers["unpause"] = ApiError("no-such-domain", "gone")
        process = Process("create", "-q", "-c", config)
        over(console.accept(), console, ended)
        assert process.finish() == (0, b"", "")

    @pytest.mark.parametrize(
        ("happened", "said"),
        [
            (outcome("crash", report="/r"), "the domain crashed; the report is in /r"),
            (
                outcome("died", status="SIGKILL"),
                "the domain's process ended unexpectedly (SIGKILL) and the guest with it",
            ),
            (outcome("destroyed"), "the domain was destroyed"),
        ],
    )
    def test_an_end_that_is_none(
        self, xend: FakeXend, console: FakeConsole, config: Path, happened: Any, said: str
    ) -> None:
        xend.answers["outcome"] = happened
        process = Process("create", "-q", "-c", config)
        with console.accept():
            console.close()
        assert process.finish() == (1, b"", f"xm: {said}\n")

    def test_notes_are_told(self, xend: FakeXend, console: FakeConsole, config: Path) -> None:
        xend.answers["outcome"] = outcome(notes=["it is so", "\x1b[2J"])
        process = Process("create", "-q", "-c", config)
        with console.accept():
            console.close()
        assert process.finish() == (0, b"", "xm: it is so\nxm: \\x1b[2J\n")


class Test_the_end:
    def test_of_a_domain_that_is_preserved(self, xend: FakeXend, console: FakeConsole) -> None:
        """Its console stays open, and what it still has to say comes."""
        gate = xend.answers["outcome"] = Gate(outcome("crash", report="/r", action="preserve"))
        process = Process("console", "web")
        with console.accept() as stream:
            stream.sendall(b"last words")
            gate.open()
            status, out, err = process.finish()
        assert (status, out) == (0, b"last words")
        assert err == (
            'xm: the domain crashed; the report is in /r; it is preserved until "xm destroy web"\n'
        )

    def test_xend_dies_meanwhile(self, xend: FakeXend, console: FakeConsole, ended: Gate) -> None:
        """The console goes on."""
        xend.answers["outcome"] = Series([Broken()] * 7 + [ended])
        process = Process("console", "web")
        with console.accept() as stream:
            stream.sendall(b"here")
            assert process.read(4) == b"here"
            over(stream, console, ended)
        assert process.finish() == (0, b"", "")

    def test_of_an_outcome_that_nobody_knows(self, xend: FakeXend, console: FakeConsole) -> None:
        xend.answers["outcome"] = ApiError("no-such-domain", "it ended long ago")
        process = Process("console", "web")
        with console.accept():
            assert process.finish() == (1, b"", "xm: it ended long ago\n")


class Test_a_reader_that_is_too_slow:
    def test_goes_on_where_it_was(self, xend: FakeXend, console: FakeConsole, ended: Gate) -> None:
        process = Process("console", "web")
        with console.accept(first=10, lost=10) as stream:
            stream.sendall(b"abc")
            assert process.read(3) == b"abc"
        with console.accept(first=15, lost=2) as stream:
            stream.sendall(b"def")
            assert process.read(3) == b"def"
            over(stream, console, ended)
        status, out, err = process.finish()
        assert (status, out) == (0, b"")
        assert err.splitlines() == [
            "xm: 10 bytes of the console are not kept any more",
            "xm: 2 bytes of the console are not kept any more",
        ]
        assert [wish["since"] for wish in console.wishes] == [None, 13]

    def test_does_not_try_for_ever(self, xend: FakeXend, console: FakeConsole, ended: Gate) -> None:
        process = Process("console", "web")
        for _ in range(4):
            console.accept().close()
        ended.open()
        assert process.finish() == (0, b"", "")


class Test_what_is_typed:
    def test_as_much_as_the_guest_takes(self, console: FakeConsole, ended: Gate, tmp_path: Path) -> None:
        """A plain file as input; the guest takes it slowly, and says something meanwhile."""
        data = os.urandom(3 << 20)
        (tmp_path / "input").write_bytes(data)
        with (tmp_path / "input").open("rb") as file:
            process = Process("console", "web", stdin=file.fileno())
        with console.accept() as stream:
            stream.sendall(b"begun")
            assert process.read(5) == b"begun"
            taken = b""
            while len(taken) < len(data):
                taken += stream.recv(4096)
            assert taken == data
            over(stream, console, ended)
        assert process.finish()[0] == 0

    @pytest.mark.parametrize("closed", ["<&-", "</dev/null"])
    def test_by_nobody(self, console: FakeConsole, ended: Gate, closed: str) -> None:
        process = Process("console", "web", shell=f'"$@" {closed}')
        with console.accept() as stream:
            stream.sendall(b"hello\n")
            assert process.read(6) == b"hello\n"
            over(stream, console, ended)
        assert process.finish() == (0, b"", "")

    def test_is_dropped_when_reading_only(self, console: FakeConsole, ended: Gate) -> None:
        process = Process("console", "--read-only", "--since", "-1", "web")
        with console.accept() as stream:
            process.type(b"typed")
            stream.sendall(b"hello")
            assert process.read(5) == b"hello"
            stream.shutdown(socket.SHUT_WR)
            console.close()
            ended.open()
            assert process.finish()[0] == 0
            assert stream.recv(99) == b""
        assert console.wishes == [{"since": -1, "read_only": True}]


def test_a_closed_output_ends_xm(console: FakeConsole) -> None:
    process = Process("console", "web", shell='"$@" | head -n 1')
    with console.accept() as stream:
        stream.sendall(b"hello\n")
        assert process.read(6) == b"hello\n"
        while True:
            try:
                stream.sendall(b"more\n")
            except OSError:
                break
    assert process.finish() == (0, b"", "")


class Test_at_a_terminal:
    def test_keys_reach_the_guest_only(
        self, console: FakeConsole, ended: Gate, at_terminal: Callable[..., Terminal]
    ) -> None:
        user = at_terminal("console", "web")
        with console.accept() as stream:
            stream.sendall(b"ready\r\n")
            user.expect(b"ready\r\n")
            assert user.is_raw()
            user.type(b"\x03\x1a\x04x")
            typed = b""
            while len(typed) < 4:
                typed += stream.recv(9)
            assert typed == b"\x03\x1a\x04x"
            over(stream, console, ended)
        assert user.wait() == 0
        assert user.modes() == user.before

    @pytest.mark.parametrize("words", [[], ["--read-only"]])
    def test_one_leaves_with_the_escape(
        self, console: FakeConsole, at_terminal: Callable[..., Terminal], words: list[str]
    ) -> None:
        user = at_terminal("console", *words, "web")
        with console.accept() as stream:
            stream.sendall(b"ready\r\n")
            user.expect(b"ready\r\n")
            user.type(b"\x1d")
            assert user.wait() == 0
        assert user.modes() == user.before
        assert (
            b'xm: left the console; the domain goes on; "xm console web" comes back to it, '
            b'"xm destroy web" ends it'
        ) in user.seen

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_a_signal_gives_it_back(
        self, console: FakeConsole, at_terminal: Callable[..., Terminal], number: signal.Signals
    ) -> None:
        user = at_terminal("console", "web")
        with console.accept() as stream:
            stream.sendall(b"ready\r\n")
            user.expect(b"ready\r\n")
            user.process.send_signal(number)
            assert user.wait() == 128 + number
        assert user.modes() == user.before
        assert b"Traceback" not in user.seen


class Test_a_process_that_does_not_answer:
    SAID = "xm: the process of web does not answer: `xm destroy web` ends it\n"

    def test_is_told(self, console: FakeConsole, xm: Xm, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("xenion.api.console.GREETING_S", 0.05)
        with Path(os.devnull).open() as nobody:
            monkeypatch.setattr("sys.stdin", nobody)
            ran = xm("console", "web")
        assert (ran.status, ran.out, ran.err) == (1, "", self.SAID)

    def test_with_many_waiting_already(self, console: FakeConsole, tmp_path: Path) -> None:
        with ExitStack() as waiting:
            with suppress(BlockingIOError):
                while True:
                    waiting.enter_context(connect(tmp_path / "console.sock", timeout=20))
            assert Process("console", "web").finish() == (1, b"", self.SAID)

    @pytest.mark.parametrize("key", [b"\x03", b"\x1d"])
    def test_can_be_left(
        self, console: FakeConsole, at_terminal: Callable[..., Terminal], key: bytes
    ) -> None:
        user = at_terminal("console", "web")
        with console.hear():
            user.type(key)
            assert user.wait() == 130
        assert user.modes() == user.before
        assert b"xm: left the console; the domain goes on" in user.seen


class Test_what_has_no_console:
    @pytest.mark.parametrize(
        ("shown", "said"),
        [
            (domain(console=""), "web does not run: it has no console"),
            (domain("Domain-0", 0), "Domain-0 is the host: it has no console here"),
        ],
    )
    def test_is_told(self, xend: FakeXend, shown: Any, said: str) -> None:
        xend.answers["domain"] = shown
        assert Process("console", "web").finish() == (1, b"", f"xm: {said}\n")

    def test_or_refuses(self, console: FakeConsole) -> None:
        process = Process("console", "web")
        console.refuse("there are too many")
        assert process.finish() == (1, b"", "xm: there are too many\n")


def test_stdin_is_not_needed_by_the_one_who_starts_it(console: FakeConsole, ended: Gate) -> None:
    process = Process("console", "web", stdin=subprocess.DEVNULL)
    over(console.accept(), console, ended)
    assert process.finish() == (0, b"", "")
