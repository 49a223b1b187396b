"""NBD servers that URLs name."""

import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.disks import kit
from tests.unit.xend.disks.kit import MIB, raw, refusal, run
from xenion.config.disk import Disk, Format
from xenion.xend.disks import nbd
from xenion.xend.disks.nbd import Server


def url(text: str, **more: object) -> Disk:
    return kit.disk(text, format=Format.NBD, **more)


@pytest.mark.parametrize(
    ("text", "server", "shown"),
    [
        ("nbd://host", Server("host", 10809, "", ""), "host:10809"),
        ("nbd://host:7/a%20b", Server("host", 7, "", "a b"), "host:7"),
        ("nbd://[::1]:7/", Server("::1", 7, "", ""), "[::1]:7"),
        ("nbd+unix:///x?socket=/run/y%3Fz", Server("", 0, "/run/y?z", "x"), "/run/y?z"),
        ("nbd+unix://?socket=/y", Server("", 0, "/y", ""), "/y"),
    ],
)
def test_urls(text: str, server: Server, shown: str) -> None:
    assert nbd.parse_url(url(text)) == server
    assert str(server) == shown


@contextmanager
def listening(answer: bytes | None) -> Iterator[int]:
    """A TCP port that sends `answer` and hangs up; None: it says nothing and stays."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as kept:
        kept.close()
        taken: list[socket.socket] = []

        def serve() -> None:
            made, _ = server.accept()
            if answer is None:
                taken.append(made)
            else:
                with suppress(OSError):  # who hears no NBD hangs up at any time
                    made.sendall(answer)
                    made.shutdown(socket.SHUT_WR)
                    made.recv(1 << 16)
                made.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield int(server.getsockname()[1])
        thread.join()
        for made in taken:
            made.close()


@pytest.mark.parametrize(
    ("answer", "says"),
    [(b"", "is an NBD server there"), (b"SSH-2.0-" + bytes(20), "no NBD server"), (None, "does not answer")],
)
def test_who_is_no_server(answer: bytes | None, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nbd, "PATIENCE_S", 0.1)
    with listening(answer) as port:
        error = run(refusal(nbd.open_url(url(f"nbd://127.0.0.1:{port}"))))
        assert says in error.message
        assert f"disk xvda: 127.0.0.1:{port}" in error.message


def test_nobody_there(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    error = run(refusal(nbd.open_url(url(f"nbd://127.0.0.1:{port}"))))
    assert "cannot be reached: Connection refused" in error.message
    error = run(refusal(nbd.open_url(url(f"nbd+unix://?socket={tmp_path}/none"))))
    assert "cannot be reached: No such file" in error.message


@contextmanager
def served(path: Path, at: Path, *options: str) -> Iterator[Disk]:
    if shutil.which("qemu-nbd") is None:
        pytest.skip("qemu-nbd is not here: install qemu-utils")
    words = ["qemu-nbd", "-k", str(at), "-f", "raw", "-x", "e x", "-t", "--pid-file", f"{at}.pid", "--fork"]
    subprocess.run([*words, *options, str(path)], check=True)
    yield url(f"nbd+unix:///e%20x?socket={at}", writable="-r" not in options)
    os.kill(int(Path(f"{at}.pid").read_text()), signal.SIGTERM)


def test_served(tmp_path: Path) -> None:
    raw(tmp_path / "image", data=b"from afar")
    with served(tmp_path / "image", tmp_path / "nbd.sock", "-e", "4") as disk:
        made = run(nbd.open_url(disk))
        assert made.description["type"] == "nbd"
        assert made.description["size_bytes"] == made.description["nbd"]["size"] == MIB
        assert len(made.fds) == nbd.CONNECTIONS
        for which in range(len(made.fds)):
            assert kit.nbd(made, kit.READ, 0, count=9, which=which) == b"from afar"
        made.close()
        error = run(refusal(nbd.open_url(url(f"nbd+unix:///other?socket={tmp_path}/nbd.sock"))))
        assert 'no export "other"' in error.message


def test_one_connection_where_there_may_be_no_more(tmp_path: Path) -> None:
    with served(raw(tmp_path / "image"), tmp_path / "nbd.sock") as disk:
        made = run(nbd.open_url(disk))
        assert len(made.fds) == 1
        made.close()


def test_a_read_only_export_is_not_written(tmp_path: Path) -> None:
    with served(raw(tmp_path / "image"), tmp_path / "nbd.sock", "-r", "-e", "4") as disk:
        before = descriptors()
        error = run(refusal(nbd.open_url(kit.disk(disk.target, format=Format.NBD))))
        assert "is read-only at its server" in error.message
        assert descriptors() == before
        run(nbd.open_url(disk)).close()
