"""The daemon's life: one for each pair of folders, from its lock to its last words."""

import asyncio
import fcntl
import logging
import os
import resource
import signal
import socket
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from xenion.api.addresses import bind, connect
from xenion.api.folders import Folders, configuration_file
from xenion.api.start import READY
from xenion.xend import autostart, record, settings, suspended
from xenion.xend.dispatch import logged
from xenion.xend.eventlog import EventLogError
from xenion.xend.handlers import all_handlers
from xenion.xend.services import Services, make_services
from xenion.xend.settings import Settings, SettingsError
from xenion.xend.storage import private_folder
from xenion.xend.web.app import make_app
from xenion.xend.web.server import WebServer

if TYPE_CHECKING:
    import ssl

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
OTHER_S = 20.0
LAST_CALL_S = 0.05
FILES = 16384
EXIT_FAILURE = 1
_logger = logging.getLogger(__name__)


class StartError(Exception):
    """xend cannot start; the message is for the user."""


def run(where: Folders, *, on_demand: bool, idle_s: float, ready_fd: int | None) -> int:
    """The exit status, when the daemon has ended."""
    os.umask(0o077)
    _raise_limit()
    answer = _Answer(ready_fd)
    try:
        lock = _take_lock(where)
        if lock is None:
            answer.ready()
            return 0
        logging.basicConfig(format=LOG_FORMAT, level=logging.INFO)  # to standard error, as a rule xend.log
        chosen = settings.read(configuration_file())
        with asyncio.Runner() as runner:
            runner.run(Daemon(where, chosen, idle_s if on_demand else None, answer).run())
    except (StartError, SettingsError, EventLogError) as error:
        answer.refuse(str(error))
        return EXIT_FAILURE
    except OSError as error:
        answer.refuse(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return EXIT_FAILURE
    return 0


def _raise_limit() -> None:
    """Each client and each domain takes a descriptor or two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, FILES), hard))


class _Answer:
    """Tells who started the daemon, once, how that went."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    def ready(self) -> None:
        self._say(READY)
        _notify_systemd(b"READY=1")

    def refuse(self, why: str) -> None:
        print(f"xend: {why}", file=sys.stderr)
        self._say(why.encode())

    def _say(self, line: bytes) -> None:
        if self._fd is not None:
            with suppress(OSError):
                os.write(self._fd, line)
            os.close(self._fd)
            self._fd = None


def _notify_systemd(state: bytes) -> None:
    """sd_notify(3)."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
            made.sendto(state, f"\0{path[1:]}" if path.startswith("@") else path)


def _take_lock(where: Folders) -> int | None:
    """None: another xend has it, and listens. StartError, OSError."""
    for folder in (where.run, where.domains, where.state):
        private_folder(folder)
        _check_private(folder)
    deadline = time.monotonic() + OTHER_S
    fd = os.open(where.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with suppress(OSError):
                connect(where.socket, timeout=1.0).close()
                os.close(fd)
                return None
            if time.monotonic() > deadline:
                raise StartError(f"another xend holds {where.lock} and does not listen: end it") from None
            time.sleep(0.02)
            continue
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return fd


def _check_private(folder: Path) -> None:
    status = folder.stat()
    if status.st_uid != os.geteuid():
        raise StartError(
            f"{folder} belongs to another user: remove it, or set XDG_STATE_HOME and XDG_RUNTIME_DIR"
        )
    if status.st_mode & 0o077:
        folder.chmod(0o700)


class Daemon:
    """`idle_s`: seconds without domains and clients after which it ends; None: it stays."""

    def __init__(self, where: Folders, chosen: Settings, idle_s: float | None, answer: _Answer) -> None:
        self._where = where
        self._settings = chosen
        self._idle_s = idle_s
        self._answer = answer
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Until it is told to end, or idle. StartError, EventLogError, OSError."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        services = make_services(self._where, self._settings)
        services.log.note("xend", "start", detail=f"process {os.getpid()}")
        services.supervisor.adopt_all()
        services.decided.sweep()
        handlers = logged(all_handlers(services), services.registry, services.log)
        server = WebServer(make_app(handlers))
        try:
            await self._take_domains(services)
            await self._listen(server)
            self._answer.ready()
            settling = loop.create_task(suspended.settle(self._where, services.registry.live.values()))
            starting = loop.create_task(autostart.start_all(services, handlers))
            await self._until_stopped(services, server)
            _notify_systemd(b"STOPPING=1")
            starting.cancel()
            settling.cancel()
            await autostart.stop_all(services, handlers["suspend"])
            if not services.registry.live and not record.folders(self._where.domains):
                await services.xenstored.stop()
        finally:
            with ExitStack() as last:  # each step, whatever becomes of the others
                last.callback(services.log.close)
                last.callback(services.log.note, "xend", "stop")
                last.callback(services.xenstored.close)
                last.callback(services.supervisor.close)
                self._where.socket.unlink(missing_ok=True)
                await services.listening.close()
                await server.close()

    async def _take_domains(self, services: Services) -> None:
        """StartError."""
        try:
            await services.listening.start()
        except OSError as error:
            chosen = self._settings.migration
            why = error.strerror or error
            raise StartError(
                f"xend cannot take domains on {chosen.host}, port {chosen.port}: {why}"
            ) from error

    async def _listen(self, server: WebServer) -> None:
        """StartError, OSError."""
        tcp = self._settings.tcp
        if tcp is not None:
            try:
                await server.listen_tcp(tcp.host, tcp.port, _tls(tcp), tcp.token)
            except OSError as error:
                why = error.strerror or error
                raise StartError(f"xend cannot listen on {tcp.host}, port {tcp.port}: {why}") from error
        await self._listen_unix(server)

    async def _listen_unix(self, server: WebServer) -> None:
        """The new socket takes the old one's place in one step."""
        fresh = self._where.socket.with_name(f".{self._where.socket.name}.new")
        fresh.unlink(missing_ok=True)
        await server.listen_unix(bind(fresh))
        fresh.replace(self._where.socket)

    async def _until_stopped(self, services: Services, server: WebServer) -> None:
        """Told to end, or idle for so long."""
        idle_since: float | None = None
        while not self._stop.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), None if self._idle_s is None else self._idle_s / 10)
            now = time.monotonic()
            if _is_busy(services, server) or self._settings.migration.port:
                idle_since = None
            elif idle_since is None:
                idle_since = now
            elif self._idle_s is not None and now - idle_since >= self._idle_s:
                if await self._nobody_comes(services, server):
                    return
                idle_since = None

    async def _nobody_comes(self, services: Services, server: WebServer) -> bool:
        """Who connects from now on starts another xend; whoever has connected just before is served by this one."""
        self._where.socket.unlink(missing_ok=True)
        await asyncio.sleep(LAST_CALL_S)
        if _is_busy(services, server):
            await self._listen_unix(server)
            return False
        return True


def _is_busy(services: Services, server: WebServer) -> bool:
    return bool(services.registry.live or services.tasks.running or server.connections)


def _tls(tcp: settings.Tcp) -> "ssl.SSLContext":
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tcp.certificate, tcp.key)
    except (OSError, ssl.SSLError) as error:
        raise StartError(f"{tcp.certificate} and {tcp.key} cannot be used: {error}") from error
    return context
