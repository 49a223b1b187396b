"""The daemon's life: its lock, its socket, its answers to who started it, and its end."""

import asyncio
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.system import build
from tests.unit.xend.kit import World, config, folders, run, within
from tests.unit.xend.running import PATIENCE_S, Xend
from xenion.api.addresses import connect
from xenion.api.errors import UnreachableError
from xenion.api.start import READY
from xenion.config.domain import DomainConfig
from xenion.xend import daemon
from xenion.xend.daemon import Daemon, StartError
from xenion.xend.settings import Settings, Tcp


def actions(xend: Xend) -> list[str]:
    client = xend.client()
    entries = client.call("log")["entries"]
    client.close()
    return [f"{entry['who']} {entry['action']}" for entry in entries]


def test_from_start_to_stop(xend: Xend) -> None:
    started = xend.start()
    assert started.said == READY
    assert xend.pid == started.process.pid
    assert xend.where.socket.stat().st_mode & 0o777 == 0o600
    assert {
        path.stat().st_mode & 0o777 for path in (xend.where.run, xend.where.domains, xend.where.state)
    } == {0o700}
    assert actions(xend) == ["xend start"]
    assert started.end() == 0
    assert xend.pid is None
    assert sorted(path.name for path in xend.where.run.iterdir()) == [
        "autostarted.json",
        "domains",
        "outcomes",
        "xend.lock",
    ]
    assert started.process.stderr is not None
    assert started.process.stderr.read() == b""
    assert xend.start("--on-demand").said == READY
    assert actions(xend) == ["xend start", "xend stop", "xend start"]


def test_killed_and_started_again(xend: Xend) -> None:
    xend.start().end(signal.SIGKILL)
    assert xend.where.socket.exists()
    (xend.where.run / ".xend.sock.new").touch()
    started = xend.start()
    assert started.said == READY
    assert actions(xend) == ["xend start", "xend start"]
    assert not (xend.where.run / ".xend.sock.new").exists()


def test_many_at_once(xend: Xend) -> None:
    """One stays, and all who started one are told when it listens."""
    every = [xend.finish(begun) for begun in [xend.begin() for _ in range(4)]]
    assert [started.said for started in every] == [READY] * 4
    pid = xend.pid
    others = [started for started in every if started.process.pid != pid]
    assert len(others) == 3
    assert [started.process.wait(PATIENCE_S) for started in others] == [0, 0, 0]
    assert actions(xend) == ["xend start"]


def test_one_that_has_the_lock_and_does_not_listen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "OTHER_S", 0.05)
    where = folders(tmp_path)
    held = daemon._take_lock(where)
    assert held is not None
    assert where.lock.read_text() == f"{os.getpid()}\n"
    with pytest.raises(StartError, match="does not listen: end it"):
        daemon._take_lock(where)
    os.close(held)


def test_folders_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = folders(tmp_path)
    where.run.mkdir(mode=0o755)
    fd = daemon._take_lock(where)
    assert fd is not None
    os.close(fd)
    assert where.run.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(StartError, match="belongs to another user"):
        daemon._take_lock(where)


@pytest.mark.parametrize(
    "case",
    ["settings", "log", "run", "port", "certificate", "arrivals", "migration", "migration's certificate"],
)
def test_what_keeps_it_from_starting_is_one_sentence(xend: Xend, case: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    for name in ("key", "token"):
        (xend.toml.parent / name).write_text("kingfisher-87-kingfisher")
        (xend.toml.parent / name).chmod(0o600)
    listen = f"127.0.0.1:{listener.getsockname()[1]}"
    tcp = f'[tcp]\nlisten = "{listen}"\ncertificate = "key"\nkey = "key"\ntoken = "token"\n'
    match case:
        case "settings":
            xend.toml.write_text("[http]\n")
            says = "http is not known"
        case "log":
            (xend.where.state / "events.jsonl").mkdir(parents=True)
            says = "event log"
        case "run":
            (xend.at / "run").touch()
            says = "Not a directory"
        case "arrivals":
            (xend.where.state).mkdir(parents=True)
            (xend.where.state / "arrivals.json").write_text("nonsense")
            says = "arrivals.json: it is damaged: move it away"
        case "migration":
            xend.toml.write_text(f'[migration]\nlisten = "{listen}"\nallow = ["127.0.0.1"]\n')
            says = f"xend cannot take domains on 127.0.0.1, port {listener.getsockname()[1]}: "
        case "migration's certificate":
            tls = 'certificate = "key"\nkey = "key"\nca = "key"\n'
            xend.toml.write_text(f'[migration]\nlisten = "{listen}"\n{tls}')
            says = f"{xend.toml.parent}/key and {xend.toml.parent}/key cannot be used: "
        case _:
            xend.toml.write_text(tcp)
            says = "cannot be used"
    with listener:
        started = xend.start()
    assert started.process.wait(PATIENCE_S) == 1
    assert says in started.said.decode()
    assert b"\n" not in started.said
    assert started.process.stderr is not None
    assert started.process.stderr.read().decode().splitlines()[-1] == f"xend: {started.said.decode()}"
    assert xend.pid is None


def test_a_port_that_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Server:
        async def listen_tcp(self, *_: object) -> None:
            raise OSError(98, "Address already in use")

    monkeypatch.setattr(daemon, "_tls", lambda tcp: None)
    tcp = Tcp("h", 1, tmp_path, tmp_path, "word")
    made = Daemon(folders(tmp_path), Settings(tcp), None, daemon._Answer(None))
    with pytest.raises(StartError, match="xend cannot listen on h, port 1: Address already in use"):
        run(lambda: made._listen(Server()))  # type: ignore[arg-type]


def test_idle_it_ends(xend: Xend) -> None:
    started = xend.start("--on-demand", "--idle-exit", "0.1")
    assert started.process.wait(PATIENCE_S) == 0
    assert not xend.where.socket.exists()


def test_one_that_takes_domains_stays(xend: Xend) -> None:
    """Others could not start it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listen = "{}:{}".format(*listener.getsockname())
    xend.toml.write_text(f'[migration]\nlisten = "{listen}"\nallow = ["127.0.0.1"]\n')
    started = xend.start("--on-demand", "--idle-exit", "0.05")
    time.sleep(0.5)
    assert started.process.poll() is None
    assert started.end() == 0


def test_a_client_keeps_it(xend: Xend) -> None:
    started = xend.start("--on-demand", "--idle-exit", "0.05")
    client = xend.client()
    started_at = client.call("info")["xend_started_at"]
    while client.call("dmesg") is not None and time.time() < started_at + 0.5:
        assert started.process.poll() is None
    client.close()
    assert started.process.wait(PATIENCE_S) == 0


def test_whoever_comes_as_it_ends_is_served(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    class Server:
        connections = 0

        async def listen_unix(self, sock: socket.socket) -> None:
            self.listening = sock
            sock.listen()

    async def work() -> None:
        async with world:
            server = Server()
            made = Daemon(world.where, Settings(), 0.05, daemon._Answer(None))
            await made._listen(server)  # type: ignore[arg-type]
            first = server.listening
            asking = asyncio.ensure_future(made._nobody_comes(world.services, server))  # type: ignore[arg-type]
            await asyncio.sleep(0)
            assert not world.where.socket.exists()
            server.connections = 1
            assert await within(asking) is False
            connect(world.where.socket).close()
            server.listening.close()
            first.close()
            server.connections = 0
            assert await within(made._nobody_comes(world.services, server)) is True  # type: ignore[arg-type]
            assert not world.where.socket.exists()
            await world.create(config(world.at))
            assert daemon._is_busy(world.services, server)  # type: ignore[arg-type]

    run(work)


def test_without_start_nobody_starts_it(xend: Xend) -> None:
    with pytest.raises(UnreachableError, match="`xend start`"):
        xend.client().call("info")


def test_the_store_ends_with_the_last_domain_and_xend(xend: Xend) -> None:
    if build.compiler() is None:
        pytest.skip("no C compiler to build a tiny kernel with: install gcc, or name one in CC")
    xend.start()
    client = xend.client()
    made = DomainConfig(name="web", kernel=build.tiny_kernel("wait"), memory_mib=16)
    task = client.call("create", {"config": made.to_mapping()})
    while task["state"] == "running":
        task = client.call("task", query={"wait": 10}, task=task["id"])
    assert task["error"] is None
    (store,) = xend.stores()
    client.close()
    assert xend.started[-1].end() == 0
    assert xend.stores() == [store], "a domain needs it"
    xend.start()
    client = xend.client()
    client.call("destroy", domain="web")
    client.close()
    assert xend.stores() == [store]
    assert xend.started[-1].end() == 0
    assert xend.stores() == []
