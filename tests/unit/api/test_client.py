"""The client: starts xend, asks again where that does no harm, and says clearly where it may."""

import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.unit.xend.running import Xend, wait_for_end
from xenion.api.actions import BY_NAME
from xenion.api.addresses import bind
from xenion.api.client import REPETITIONS, BrokenError, Client, path_of
from xenion.api.errors import ApiError, UnreachableError
from xenion.api.folders import Folders

Answer = Callable[[bytes], bytes]
DONE = {"id": "t", "state": "done", "error": None, "seen": 3, "result": {"a": 1}}


def http(value: Any, status: int = 200) -> bytes:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


class Last(bytes):
    """An answer that the end of the connection follows."""


class Fake:
    """Stands in for xend: a script of answers, each for one request."""

    def __init__(self, folder: Path, answers: list[bytes]) -> None:
        self.where = Folders(folder, folder)
        self.requests: list[tuple[str, Any]] = []
        self.connections = 0
        self._answers = answers
        self._listener = bind(self.where.socket)
        self._listener.listen(20)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                stream = self._listener.accept()[0]
                self.connections += 1
                with stream, stream.makefile("rb") as file:
                    while self._serve(stream, file):
                        pass

    def _serve(self, stream: socket.socket, file: Any) -> bool:
        line = file.readline()
        if not line or not self._answers:
            return False
        length = 0
        while (header := file.readline().strip()) != b"":
            name, _, value = header.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        body = file.read(length)
        self.requests.append((line.decode().rpartition(" ")[0], json.loads(body) if body else None))
        answer = self._answers.pop(0)
        stream.sendall(answer)
        return not isinstance(answer, Last)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Fake, Client]]]:
    monkeypatch.delenv("XEND_URL", raising=False)
    made: list[tuple[Fake, Client]] = []

    def make(*answers: bytes) -> tuple[Fake, Client]:
        fake = Fake(tmp_path, list(answers))
        made.append((fake, Client(fake.where, start=False)))
        return made[-1]

    yield make
    for fake, client in made:
        client.close()
        fake.close()


Make = Callable[..., tuple[Fake, Client]]


def test_calls_are_requests(fake: Make) -> None:
    server, client = fake(http({"a": 1}), http({}), http({}), http({}, 200), http(b""))
    assert client.call("info") == {"a": 1}
    client.call("domain", domain="a/b ü")
    client.call("log", query={"since": 3, "uuid": "u"})
    client.call("rename", {"name": "x"}, domain="web")
    assert client.call("delete", domain="web") is None
    assert server.requests == [
        ("GET /v1/info", None),
        ("GET /v1/domains/a%2Fb%20%C3%BC", None),
        ("GET /v1/log?since=3&uuid=u", None),
        ("POST /v1/domains/web/rename", {"name": "x"}),
        ("DELETE /v1/managed/web", None),
    ]
    assert server.connections == 1


def test_refusals(fake: Make) -> None:
    _, client = fake(http({"error": {"code": "refused", "message": "no"}}, 409))
    with pytest.raises(ApiError) as caught:
        client.call("info")
    assert (caught.value.code, caught.value.message) == ("refused", "no")


@pytest.mark.parametrize(
    "answer", [http(b"<html>"), http({"no": "error"}, 500), http([1], 404), http({"error": "text"}, 400)]
)
def test_what_answers_is_not_xend(fake: Make, answer: bytes) -> None:
    _, client = fake(answer)
    with pytest.raises(UnreachableError, match="not xend"):
        client.call("info")


def test_looking_and_creating_are_repeated(fake: Make) -> None:
    torn = Last(http({"a": 1})[:-3])
    server, client = fake(Last(), torn, http({"a": 1}), Last(), Last(b"HTTP/1.1 2"), http({"b": 2}))
    assert client.call("info") == {"a": 1}
    assert client.call("create", {"config": {}}) == {"b": 2}
    words = [body["request"] for _, body in server.requests if body]
    assert len(words) == 3
    assert len(set(words)) == 1, "a repetition has the same word"


def test_a_word_of_the_callers_own_is_kept(fake: Make) -> None:
    server, client = fake(http({}))
    client.call("create", {"config": {}, "request": "mine"})
    assert server.requests[0][1]["request"] == "mine"


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 2", http({"a": 1})[:-3], b"rubbish\r\n\r\n"])
def test_other_changes_are_not(fake: Make, answer: bytes) -> None:
    server, client = fake(Last(answer), http({}))
    with pytest.raises(BrokenError, match="look with `xm list`"):
        client.call("destroy", domain="web")
    assert len(server.requests) == 1


def test_it_gives_up(fake: Make) -> None:
    server, client = fake(*[Last()] * 20)
    with pytest.raises(BrokenError):
        client.call("info")
    assert len(server.requests) == REPETITIONS


def test_a_connection_that_xend_closed_meanwhile_is_not_used(fake: Make) -> None:
    """What is asked on it would seem to have been broken off."""
    server, client = fake(Last(http({})), http({"a": 1}))
    client.call("info")
    connection = client._connection
    assert connection is not None
    assert connection.sock is not None
    connection.sock.recv(1, socket.MSG_PEEK)  # until the close is here
    assert client.call("pause", domain="web") == {"a": 1}
    assert server.connections == 2


def test_tasks_are_followed(fake: Make) -> None:
    states = [{"id": "t", "state": "running", "error": None, "seen": n} for n in (1, 2)]
    server, client = fake(http(states[1]), http(DONE))
    seen: list[str] = []
    assert client.follow(states[0], lambda task: seen.append(task["state"])) == DONE
    assert seen == ["running", "running", "done"]
    assert [line for line, _ in server.requests] == [f"GET /v1/tasks/t?wait=20&seen={n}" for n in (1, 2)]
    failed = {**DONE, "state": "failed", "error": {"code": "refused", "message": "no"}}
    with pytest.raises(ApiError, match="no"):
        client.follow(failed)


def test_events(fake: Make) -> None:
    stream = b':\n\nid: 1\ndata: {"n": 1}\n\n:\n\ndata: {"n":\ndata: 2}\n\n'
    refused = http({"error": {"code": "too-many", "message": "no"}}, 429)
    server, client = fake(Last(b"HTTP/1.1 200 X\r\nConnection: close\r\n\r\n" + stream), refused)
    assert list(client.events(since=0)) == [{"n": 1}, {"n": 2}]
    assert server.requests == [("GET /v1/events?since=0", None)]
    with pytest.raises(ApiError, match="no"):
        next(client.events())


@pytest.mark.parametrize(
    "url", ["http://h", "h:8006", "https://", "https://h:x", "https://[::1", "https://h h"]
)
def test_urls_that_are_none(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("XEND_URL", url)
    with pytest.raises(UnreachableError, match="give it as https://HOST:PORT"):
        Client().call("info")


def test_a_host_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("XEND_URL", f"https://127.0.0.1:{port}")
    with pytest.raises(
        UnreachableError, match=f"cannot be reached at https://127.0.0.1:{port}: Connection refused"
    ):
        Client().call("info")
    monkeypatch.setenv("XEND_CA", "/missing")
    with pytest.raises(UnreachableError, match="XEND_CA is /missing: No such file"):
        Client().call("info")


def test_what_cannot_be_asked(fake: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    _, client = fake(http({}))
    for method, path in (("GET", "/a b"), ("GET", "/ü"), ("A B\n", "/")):
        with pytest.raises(ApiError) as caught:
            client.request(method, path)
        assert caught.value.code == "bad-request"
    monkeypatch.setenv("XEND_TOKEN", "two\nlines")
    with pytest.raises(ApiError, match="this cannot be asked"):
        client.call("info")
    monkeypatch.delenv("XEND_TOKEN")
    assert client.call("info") == {}


def test_path_of() -> None:
    assert path_of(BY_NAME["domain"], {"domain": "../x?"}) == "/v1/domains/..%2Fx%3F"


# --- with a real xend


def test_xend_is_started_when_it_does_not_run(xend: Xend) -> None:
    client = xend.client(start=True)
    first = client.call("info")["xend_pid"]
    assert first == xend.pid
    for number in (signal.SIGKILL, signal.SIGTERM):
        pid = client.call("info")["xend_pid"]
        os.kill(pid, number)
        wait_for_end(pid)
        assert client.call("info")["xend_pid"] != pid
    client.close()


def test_a_xend_that_ends_just_as_it_is_found(xend: Xend, monkeypatch: pytest.MonkeyPatch) -> None:
    from xenion.api import client as module

    calls = []

    def start(where: Folders) -> None:
        calls.append(where)
        if len(calls) > 2:
            xend.start()

    monkeypatch.setattr(module, "start_xend", start)
    client = xend.client(start=True)
    assert client.call("info")
    assert len(calls) == 3
    client.close()
    monkeypatch.setattr(module, "start_xend", lambda where: None)
    client = Client(Folders(xend.at, xend.at))
    with pytest.raises(UnreachableError, match="was started and cannot be reached"):
        client.call("info")


def test_over_tls_with_a_token(xend: Xend, monkeypatch: pytest.MonkeyPatch) -> None:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    at = xend.toml.parent
    certificate.cert_chain_pems[0].write_to_path(at / "crt")
    certificate.private_key_pem.write_to_path(at / "key")
    authority.cert_pem.write_to_path(at / "ca")
    (at / "token").write_text("kingfisher-87-kingfisher")
    for name in ("key", "token"):
        (at / name).chmod(0o600)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    xend.toml.write_text(
        f'[tcp]\nlisten = "127.0.0.1:{port}"\ncertificate = "crt"\nkey = "key"\ntoken = "token"\n'
    )
    assert xend.start().said == b"ready\n"
    monkeypatch.setenv("XEND_URL", f"https://127.0.0.1:{port}")
    with pytest.raises(UnreachableError, match="certificate verify failed"):
        Client().call("info")
    monkeypatch.setenv("XEND_CA", str(at / "ca"))
    client = Client()
    with pytest.raises(ApiError) as caught:
        client.call("info")
    assert caught.value.code == "unauthorized"
    client.close()
    monkeypatch.setenv("XEND_TOKEN", "kingfisher-87-kingfisher")
    for _ in range(2):
        assert client.call("info")["xend_pid"] == xend.pid
    client.close()
