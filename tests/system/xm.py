"""Drives the real `xm` as a user would: a process with arguments, files, signals and an exit status.

Each test has folders of its own, and with them a xend of its own, which the first `xm` starts.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xenion
from xenion.api.addresses import address_of
from xenion.api.client import Client
from xenion.api.folders import Folders
from xenion.dom0.net.switch_client import SwitchClient, SwitchGoneError
from xenion.xend.command import pid_of
from xenion.xend.helpers import MARK
from xenion.xend.networks.isolated import SOCKET

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 60.0
ENDING_S = 10.0


def command() -> list[str]:
    """The installed `xm` beside this interpreter, else the same program out of the source tree."""
    installed = Path(sys.executable).with_name("xm")
    if installed.exists():
        return [str(installed)]
    return [sys.executable, "-c", "from xenion.xm.main import run; run()"]


def wait_for(what: Callable[[], bool], seconds: float = TIMEOUT_S) -> None:
    """Until it holds."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it has not come about"
        time.sleep(0.05)


@dataclass(frozen=True, slots=True)
class Finished:
    """How a run of xm went. `console` is its standard output as text, with the terminal's line ends taken away."""

    status: int
    stdout: bytes
    stderr: str
    seconds: float

    @property
    def console(self) -> str:
        return self.stdout.decode(errors="replace").replace("\r", "")

    @property
    def lines(self) -> list[str]:
        return self.console.splitlines()

    def facts(self) -> dict[str, str]:
        """The guest's lines NAME=VALUE."""
        pairs = (line.partition("=") for line in self.lines if line.partition("=")[0].isidentifier())
        return {name: value for name, _, value in pairs}

    def sentence(self) -> str:
        """The one sentence on standard error; anything more, or a traceback, fails the test."""
        assert "Traceback" not in self.stderr, self.stderr
        lines = self.stderr.splitlines()
        assert len(lines) == 1, self.stderr
        assert lines[0].startswith("xm: "), self.stderr
        return lines[0].removeprefix("xm: ")


@dataclass(frozen=True, slots=True)
class DomainProcess:
    """A domain process that is running."""

    pid: int

    def alive(self) -> bool:
        """False for a zombie, too."""
        return _state(self.pid) not in ("", "Z", "X")

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout_s: float = TIMEOUT_S) -> bool:
        """Whether it has gone in time."""
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            return bool(poll.poll(timeout_s * 1000))
        finally:
            os.close(fd)

    def facts(self, name: str) -> str:
        """The text of /proc/PID/NAME."""
        return Path(f"/proc/{self.pid}/{name}").read_text()


class Conversation:
    """xm with pipes for a terminal: says something when the guest has said something."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self._stdin, self._stdout, self._stderr = process.stdin, process.stdout, process.stderr
        self._unseen = b""
        self.shown = b""

    def wait_for(self, start: str, timeout_s: float = TIMEOUT_S) -> str:
        """The guest's next line that starts so."""
        deadline = time.monotonic() + timeout_s
        while True:
            line, newline, rest = self._unseen.partition(b"\n")
            if not newline:
                self._read(deadline)
                continue
            self._unseen = rest
            if line.startswith(start.encode()):
                return line.decode().rstrip("\r")

    def _read(self, deadline: float) -> None:
        ready, _, _ = select.select([self._stdout], [], [], max(deadline - time.monotonic(), 0))
        data = os.read(self._stdout.fileno(), 65536) if ready else b""
        assert data, f"the guest has not said it: {self.shown[-2000:].decode(errors='replace')}"
        self._unseen += data
        self.shown += data

    def say(self, data: bytes) -> None:
        self._stdin.write(data)
        self._stdin.flush()

    def finish(self, timeout_s: float = TIMEOUT_S) -> Finished:
        """Says no more; how it went."""
        self._stdin.close()
        deadline = time.monotonic() + timeout_s
        while data := self._rest(deadline):
            self.shown += data
        status = self._process.wait(timeout_s)
        return Finished(status, self.shown, self._stderr.read().decode(errors="replace"), 0)

    def _rest(self, deadline: float) -> bytes:
        ready, _, _ = select.select([self._stdout], [], [], max(deadline - time.monotonic(), 0))
        assert ready, f"xm goes on: {self.shown[-2000:].decode(errors='replace')}"
        return os.read(self._stdout.fileno(), 65536)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._stdin, self._stdout, self._stderr):
            with contextlib.suppress(BrokenPipeError):
                stream.close()


class Xm:
    """xm with a state folder of its own, by which its domain processes are known."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.run_folder = folder / "run"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("XEND_")},
            "XDG_STATE_HOME": str(self.state),
            "XDG_RUNTIME_DIR": str(self.run_folder),
            "XDG_CONFIG_HOME": str(folder / "config"),
        }
        # Programs are started elsewhere than the tests are: the package must be found by an absolute path.
        self.environment["PYTHONPATH"] = str(Path(next(iter(xenion.__path__))).resolve().parent)
        self._number = 0

    def config(self, name: str | None = None, /, **keys: object) -> Path:
        """A configuration file with these keys, in xm's syntax."""
        self._number += 1
        path = self.folder / f"{name or f'guest{self._number}'}.cfg"
        path.write_text("".join(f"{key} = {_literal(value)}\n" for key, value in keys.items()))
        return path

    def start(
        self, *words: str | Path, stdin: int = subprocess.DEVNULL, before: Sequence[str] = ()
    ) -> "subprocess.Popen[bytes]":
        """xm as a child with both outputs in pipes; the caller waits for it. `before` is a command that runs it."""
        return subprocess.Popen(
            [*before, *command(), *map(str, words)],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
            cwd=ROOT,
        )

    def run(
        self,
        *words: str | Path,
        given: bytes | None = None,
        timeout_s: float = TIMEOUT_S,
        before: Sequence[str] = (),
    ) -> Finished:
        """xm until it ends by itself; `given` is its standard input."""
        started = time.monotonic()
        process = self.start(
            *words, stdin=subprocess.DEVNULL if given is None else subprocess.PIPE, before=before
        )
        try:
            out, err = process.communicate(given, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            text = f"xm has not ended after {timeout_s} s\n" + out.decode(errors="replace")[-3000:]
            raise AssertionError(text + err.decode(errors="replace")) from None
        return Finished(process.returncode, out, err.decode(errors="replace"), time.monotonic() - started)

    @contextlib.contextmanager
    def conversation(self, config: Path) -> Iterator[Conversation]:
        """`xm create -c`, spoken to."""
        made = Conversation(self.start("create", "-c", config, stdin=subprocess.PIPE))
        try:
            yield made
        finally:
            made.close()

    def create(
        self, config: Path, *words: str, given: bytes | None = None, timeout_s: float = TIMEOUT_S
    ) -> Finished:
        """`xm create -c`."""
        return self.run("create", "-c", config, *words, given=given, timeout_s=timeout_s)

    def domains(self) -> list[DomainProcess]:
        """The domain processes that this xm has started and that still run."""
        mark = f"XDG_STATE_HOME={self.state}".encode()
        return [DomainProcess(pid) for pid in _pids() if mark in _environment(pid) and _is_domain(pid)]

    def the_domain(self) -> DomainProcess:
        (domain,) = self.domains()
        return domain

    def domain_folder(self, name: str) -> Path:
        return self.state / "xenion" / "domains" / name

    def console_log(self, name: str) -> str:
        """What a domain's console has said."""
        return (self.domain_folder(name) / "console.log").read_text(errors="replace").replace("\r", "")

    def api(self) -> Client:
        """A client of the same xend, which must run."""
        return Client(Folders(self.run_folder / "xenion", self.state / "xenion"), start=False)

    def json(self, *words: str | Path) -> Any:
        """What `xm ... --json` prints; it must succeed."""
        done = self.run(*words, "--json")
        assert done.status == 0, done.stderr
        return json.loads(done.stdout)

    def xend(self) -> int | None:
        """The process of the xend of these folders."""
        return pid_of(Folders(self.run_folder / "xenion", self.state / "xenion"))

    def stop_xend(self) -> None:
        """In good order."""
        pid = self.xend()
        if pid is not None:
            DomainProcess(pid).signal(signal.SIGTERM)
            assert DomainProcess(pid).wait(), "xend does not end"

    def helpers(self, program: str = "") -> list[int]:
        """Processes of programs that work for domains of this xm beside them, or of the one that is named so."""
        return [
            pid for pid in self.left() if _is_helper(pid, self.run_folder) and program in _command_line(pid)
        ]

    def xenstored(self) -> int:
        """The process of the store of these folders."""
        (found,) = (pid for pid in self.left() if "xenion.dom0.xenstore" in _command_line(pid).split())
        return found

    def left(self) -> list[int]:
        """Processes that belong to this xm: itself, xend, domains, the store, and all helpers."""
        mark = f"XDG_STATE_HOME={self.state}".encode()
        return [
            pid
            for pid in _pids()
            if (mark in _environment(pid) or _is_helper(pid, self.run_folder))
            and pid != os.getpid()
            and _state(pid) not in ("", "Z", "X")
        ]

    def end_all(self) -> list[str]:
        """Ends xend, then kills everything that is left of this xm; the command lines of what was.

        What is just ending is waited for. A switch of isolated networks may stay a minute, but without a port, and
        the store some seconds, but without a domain.
        """
        self.stop_xend()
        self._end_idle_switch()
        self._end_idle_store()
        deadline = time.monotonic() + ENDING_S
        for pid in self.left():
            DomainProcess(pid).wait(max(deadline - time.monotonic(), 0))
        left = self.left()
        described = [f"{pid}: {_command_line(pid)}" for pid in left]
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return described

    def _end_idle_switch(self) -> None:
        for pid in self.helpers("xenion.dom0.net.switch"):
            with (
                contextlib.suppress(SwitchGoneError),
                address_of(self.run_folder / "xenion" / SOCKET) as path,
                SwitchClient(Path(path)) as client,
            ):
                if client.list():
                    continue
            DomainProcess(pid).signal(signal.SIGTERM)

    def _end_idle_store(self) -> None:
        left = self.left()
        stores = [pid for pid in left if "xenion.dom0.xenstore" in _command_line(pid).split()]
        if not any("xenion.domain" in _command_line(pid).split() for pid in left):
            for pid in stores:
                DomainProcess(pid).signal(signal.SIGTERM)


def _literal(value: object) -> str:
    """As a configuration file has it."""
    if isinstance(value, int):
        return str(value)
    return repr([str(each) for each in value]) if isinstance(value, list) else repr(str(value))


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _environment(pid: int) -> list[bytes]:
    return _read(pid, "environ").split(b"\0")


def _command_line(pid: int) -> str:
    return _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()


def _is_helper(pid: int, run: Path) -> bool:
    """By the mark that xend gives it, or by what it was told: the store has no mark, and passt shows an ordinary user
    none."""
    mark = f"{MARK}={run}/".encode()
    return any(word.startswith(mark) for word in _environment(pid)) or f"{run}/" in _command_line(pid)


def _is_domain(pid: int) -> bool:
    return b"xenion.domain" in _read(pid, "cmdline").split(b"\0") and _state(pid) != "Z"


def _state(pid: int) -> str:
    return _read(pid, "stat").decode(errors="replace").rpartition(")")[2].strip()[:1]
