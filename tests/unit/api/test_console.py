"""Attaching to a console, whatever may answer there."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.descriptors import descriptors
from xenion.api.addresses import bind
from xenion.api.console import ConsoleError, attach

Server = Callable[[bytes], list[bytes]]


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Callable[[bytes], list[bytes]]]:
    """Answers one client with these bytes, and closes; the list gets what the client has asked."""
    threads = []

    def serve(answer: bytes) -> list[bytes]:
        asked: list[bytes] = []
        listener = bind(tmp_path / "console.sock")
        listener.listen(1)

        def run() -> None:
            with listener, listener.accept()[0] as stream, stream.makefile("rb") as file:
                asked.append(file.readline())
                stream.sendall(answer)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return asked

    yield serve
    for thread in threads:
        thread.join(10)


def test_attached(tmp_path: Path, answering: Server) -> None:
    asked = answering(b'{"first": 7, "lost": 2}\nhello')
    attached = attach(tmp_path / "console.sock", 5, read_only=True)
    with attached.stream as stream:
        assert (attached.first, attached.lost) == (7, 2)
        assert stream.recv(99) == b"hello", "what follows the line is the guest's"
        assert stream.gettimeout() is None
    assert json.loads(asked[0]) == {"since": 5, "read_only": True}


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"", "closed before it answered"),
        (b'{"first": 1', "closed before it answered"),
        (b"x" * 5000, "closed before it answered"),
        (b'{"error": "too many"}\n', "too many"),
        (b"HTTP/1.1 400\n", "no console"),
        (b"[]\n", "no console"),
        (b'{"first": null, "lost": 0}\n', "no console"),
        (b'{"first": Infinity, "lost": 0}\n', "no console"),
        (b'{"first": 1}\n', "no console"),
        (b"[" * 4000 + b"\n", "no console"),
        (b"\xff\n", "no console"),
    ],
)
def test_what_is_no_console(tmp_path: Path, answering: Server, answer: bytes, says: str) -> None:
    answering(answer)
    with pytest.raises(ConsoleError, match=says):
        attach(tmp_path / "console.sock")


def test_nobody_listens(tmp_path: Path) -> None:
    before = descriptors()
    with pytest.raises(FileNotFoundError):
        attach(tmp_path / "console.sock")
    assert descriptors() == before
