"""The API of a real xend over TLS: fuzzed from its own document, misused by hand, used by xm from elsewhere."""

import http.client
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
import schemathesis
import trustme
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.system.xm import Xm
from xenion.api.addresses import connect
from xenion.api.client import Client
from xenion.xend.web.openapi import document

if TYPE_CHECKING:
    from tests.system.conftest import GuestMaker, Kernel

TOKEN = "the-word-of-these-tests"
PICKY = {
    "GET /v1/domains/{domain}/console",
    "POST /v1/domains",
    "POST /v1/managed",
    "PUT /v1/domains/{domain}/config",
}
"""What their schemas allow is not all that they take: an upgrade, configurations of domains that can be."""
schema = schemathesis.openapi.from_dict({**document(), "security": []}).exclude(
    path="/v1/events"
)  # never ends
few = settings(
    max_examples=5, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
many = settings(few, max_examples=200, derandomize=False)


@dataclass
class Remote:
    """A xend that listens on TLS, and how to reach it."""

    xm: Xm
    url: str
    authority: Path
    session: requests.Session

    def environment(self) -> dict[str, str]:
        return {"XEND_URL": self.url, "XEND_TOKEN": TOKEN, "XEND_CA": str(self.authority)}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    xm = Xm(tmp_path_factory.mktemp("api"))
    folder, port = xm.folder / "config" / "xenion", free_port()
    folder.mkdir(parents=True)
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(str(folder / "key"))
    certificate.cert_chain_pems[0].write_to_path(str(folder / "certificate"))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    (folder / "token").write_text(f"{TOKEN}\n")
    for secret in ("key", "token"):
        (folder / secret).chmod(0o600)
    (folder / "xend.toml").write_text(
        f'[tcp]\nlisten = "127.0.0.1:{port}"\ncertificate = "certificate"\nkey = "key"\ntoken = "token"\n'
    )
    started = xm.run("info")
    assert started.status == 0, started.stderr
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {TOKEN}"
        session.verify = str(folder / "ca.pem")
        yield Remote(xm, f"https://127.0.0.1:{port}", folder / "ca.pem", session)
    log = (xm.state / "xenion" / "xend.log").read_text()
    assert xm.end_all() == []
    assert "Traceback" not in log, log


def check(case: Any, remote: Remote) -> None:
    excluded = [positive_data_acceptance] if case.operation.label in PICKY else []
    case.call_and_validate(
        base_url=remote.url,
        session=remote.session,
        headers={"Authorization": f"Bearer {TOKEN}"},
        verify=remote.session.verify,
        excluded_checks=excluded,
    )


@schema.parametrize()
@few
def test_a_few_of_everything(case: Any, remote: Remote) -> None:
    check(case, remote)


@pytest.mark.slow
@schema.parametrize()
@many
def test_much_of_everything(case: Any, remote: Remote) -> None:
    check(case, remote)


def test_xm_from_elsewhere(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in remote.environment().items():
        monkeypatch.setitem(remote.xm.environment, name, value)
    listed = remote.xm.json("list")
    assert listed[0]["name"] == "Domain-0"
    monkeypatch.setitem(remote.xm.environment, "XEND_TOKEN", "another-word-than-that")
    refused = remote.xm.run("list")
    assert refused.status == 1
    assert "token" in refused.sentence()


class Test_a_console_from_elsewhere:
    @pytest.fixture
    def xm(self, remote: Remote, monkeypatch: pytest.MonkeyPatch) -> Xm:
        for name, value in remote.environment().items():
            monkeypatch.setitem(remote.xm.environment, name, value)
        return remote.xm

    def test_shows_all_of_a_short_life(self, xm: Xm, tiny_kernel: "Kernel") -> None:
        done = xm.create(
            xm.config("short", kernel=tiny_kernel("poweroff", "hello\n", times=50000), memory=16)
        )
        assert (done.status, done.stderr) == (0, "")
        assert done.console == "hello\n" * 50000

    def test_takes_what_is_typed(self, xm: Xm, guest: "GuestMaker") -> None:
        ramdisk = guest("dmesg -n 1; stty -echo; echo up; read -r word < /dev/console; echo got=$word")
        with xm.conversation(ramdisk) as talk:
            talk.wait_for("up")
            talk.say(b"a-word\n")
            assert talk.wait_for("got=") == "got=a-word"
            assert talk.finish().status == 0

    def test_of_what_does_not_run(self, xm: Xm, tiny_kernel: "Kernel") -> None:
        assert xm.run("new", xm.config("idle", kernel=tiny_kernel("wait"), memory=16)).status == 0
        for name in ("idle", "nobody"):
            refused = xm.run("console", name)
            assert refused.status == 1
            assert name in refused.sentence()
        assert xm.run("delete", "idle").status == 0


def test_without_the_token_nothing_is_told(remote: Remote) -> None:
    for path in ("/", "/v1/domains", "/v1/openapi.json"):
        answer = requests.get(f"{remote.url}{path}", verify=remote.session.verify, timeout=20)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "unauthorized"


TRICKS = [
    "..",
    "%2e%2e%2f%2e%2e",
    "a%00b",
    "a%2fb",
    "x" * 300,
    "%ff",
    "%27%20OR%201",
    "-l",
    "web%0d%0aX:%20y",
    "%ef%bc%85",
]


class Test_misuse:
    @pytest.fixture
    def client(self, remote: Remote) -> Iterator[Client]:
        assert remote.xm.run("list").status == 0
        made = remote.xm.api()
        yield made
        made.close()

    @pytest.fixture
    def connection(self, client: Client) -> Iterator[http.client.HTTPConnection]:
        made = http.client.HTTPConnection("xend", timeout=20)
        made.sock = connect(client.where.socket, timeout=20)
        yield made
        made.close()

    @pytest.mark.parametrize("name", TRICKS)
    def test_names_that_try_to_be_paths(self, connection: http.client.HTTPConnection, name: str) -> None:
        for method, path in (
            ("GET", "/v1/domains/{}"),
            ("POST", "/v1/domains/{}/destroy"),
            ("GET", "/v1/outcomes/{}"),
        ):
            connection.putrequest(
                method, path.format(name).encode("utf-8").decode("latin-1"), skip_host=False
            )
            connection.endheaders()
            answer = connection.getresponse()
            body = answer.read()
            assert 400 <= answer.status < 500, body
            assert json.loads(body)["error"]["message"]
            if answer.will_close:
                connection.close()
                return

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"{" + b" " * (2 << 20), 413),
            (b"[" * 100000, 400),
            (b'{"config": 7}', 400),
            (b'{"config": {"name": "a", "kernel": "/k", "memory_mib": "much"}}', 400),
            (b'{"config": {}, "surprise": 1}', 400),
            (b"\xff\xfe", 400),
            (b'{"config": {"name": "../etc", "kernel": "/boot/vmlinuz"}}', 400),
            (b'{"config": {"name": "a", "kernel": "relative"}}', 400),
        ],
    )
    def test_bodies(self, connection: http.client.HTTPConnection, body: bytes, status: int) -> None:
        connection.request("POST", "/v1/domains", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == status
        assert json.loads(answer.read())["error"]["message"]

    def test_a_thousand_connections(self, client: Client) -> None:
        """Each is served or refused with a word, and afterwards all is well."""
        crowd = []
        try:
            for _ in range(1000):
                crowd.append(connect(client.where.socket, timeout=20))
            answers = set()
            for member in crowd:
                member.sendall(b"GET /v1/dmesg HTTP/1.1\r\nHost: xend\r\nConnection: close\r\n\r\n")
            for member in crowd:
                answers.add(member.recv(12))
            assert answers <= {b"HTTP/1.1 200", b"HTTP/1.1 429"}
        finally:
            for member in crowd:
                member.close()
        assert client.call("list")["domains"]

    def test_a_slow_client_delays_nobody(self, client: Client) -> None:
        with connect(client.where.socket, timeout=20) as slow:
            slow.sendall(b"POST /v1/domains HTTP/1.1\r\nHost: xend\r\nContent-Le")
            assert client.call("list")["domains"]

    def test_domain_0_is_left_alone(self, remote: Remote, tiny_kernel: "Kernel") -> None:
        for words in (
            ("destroy", "0"),
            ("pause", "Domain-0"),
            ("shutdown", "Domain-0"),
            ("rename", "0", "mine"),
        ):
            done = remote.xm.run(*words)
            assert done.status == 1
            assert "Domain-0 is the host" in done.sentence()
