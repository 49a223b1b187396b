"""TLS between xends: both show a certificate of the same authority, or nothing is said."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from tests.unit.xend.kit import run, within
from xenion.xend.migration import tls
from xenion.xend.migration.connecting import Connector
from xenion.xend.migration.target import Target
from xenion.xend.migration.wire import DATA, Wire, WireError
from xenion.xend.settings import Migration

Make = Callable[..., Migration]


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def make(tmp_path: Path, authority: trustme.CA) -> Make:
    """Settings of a host with a certificate that `by` has issued, which trusts `trusts`."""

    def settings(name: str, by: trustme.CA = authority, trusts: trustme.CA = authority) -> Migration:
        folder = tmp_path / name
        folder.mkdir()
        certificate = by.issue_cert(f"{name}.example.org")
        certificate.private_key_pem.write_to_path(folder / "key")
        for pem in certificate.cert_chain_pems:
            pem.write_to_path(folder / "certificate", append=True)
        trusts.cert_pem.write_to_path(folder / "ca")
        return Migration("127.0.0.1", 1, (), folder / "certificate", folder / "key", folder / "ca")

    return settings


async def reaches(here: Migration, context: ssl.SSLContext | None, *, with_tls: bool = True) -> bool:
    """Both hear each other. WireError: as the source says it."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(reader, writer)
        try:
            await wire.greet()
            heard.append((await wire.receive(5)).data)
            await wire.send(DATA, b"there")
        except WireError:
            return
        finally:
            await wire.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        host, port = server.sockets[0].getsockname()
        wire = await within(Connector(here).connect(Target(host, port, with_tls)))
        try:
            await wire.send(DATA, b"here")
            return (await wire.receive(5)).data == b"there" and heard == [b"here"]
        finally:
            await wire.close()
    finally:
        server.close()


async def why(here: Migration, context: ssl.SSLContext | None, *, with_tls: bool = True) -> str:
    with pytest.raises(WireError) as caught:
        await within(reaches(here, context, with_tls=with_tls))
    return str(caught.value)


def test_of_one_authority(make: Make) -> None:
    here, there = make("here"), make("there")
    assert run(lambda: reaches(here, tls.server_context(there)))
    assert run(lambda: reaches(there, tls.server_context(here)))


def test_nothing_is_said_that_others_could_read(make: Make) -> None:
    there = tls.server_context(make("there"))
    assert there is not None
    assert there.minimum_version == ssl.TLSVersion.TLSv1_3
    assert there.verify_mode == ssl.CERT_REQUIRED
    here = tls.client_context(make("here"))
    assert (here.minimum_version, here.verify_mode) == (ssl.TLSVersion.TLSv1_3, ssl.CERT_REQUIRED)


def test_a_source_of_another_authority(make: Make) -> None:
    other = trustme.CA()
    here, there = make("here", by=other), make("there")
    assert run(lambda: why(here, tls.server_context(there))).startswith("the connection ")


def test_a_target_of_another_authority(make: Make) -> None:
    other = trustme.CA()
    here, there = make("here"), make("there", by=other)
    said = run(lambda: why(here, tls.server_context(there)))
    assert said.startswith("TLS: ")
    assert "CERTIFICATE_VERIFY_FAILED" in said


def test_a_source_without_a_certificate(make: Make) -> None:
    there = tls.server_context(make("there"))

    async def work() -> None:
        heard: list[str] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append("somebody")

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=there)
        anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
        try:
            reader, writer = await within(
                asyncio.open_connection(*server.sockets[0].getsockname(), ssl=anybody)
            )
            assert await within(reader.read()) == b""
            writer.close()
        except OSError as error:
            assert "certificate required" in str(error)  # noqa: PT017
        assert heard == []
        server.close()

    run(work)


def test_one_speaks_tls_and_the_other_does_not(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xenion.xend.migration.wire.GREETING_S", 1.0)
    here, there = make("here"), make("there")
    said = run(lambda: why(here, tls.server_context(there), with_tls=False))
    assert said.startswith("the connection ") or said == "nothing of Xenion's listens there"
    said = run(lambda: why(here, None))
    assert said.startswith(("TLS: ", "it cannot be reached "))


def test_without(make: Make) -> None:
    assert tls.server_context(Migration("127.0.0.1", 1)) is None
    with pytest.raises(WireError, match="needs certificate, key and ca in"):
        tls.client_context(Migration("127.0.0.1", 1))


@pytest.mark.parametrize("name", ["certificate", "key", "ca"])
@pytest.mark.parametrize("content", [None, "", "nonsense"])
def test_files_that_are_none(make: Make, name: str, content: str | None) -> None:
    here = make("here")
    path: Path = getattr(here, name)
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(WireError, match="cannot be used") as caught:
        tls.client_context(here)
    assert str(path) in str(caught.value)
    with pytest.raises(OSError, match="cannot be used") as refused:
        tls.server_context(here)
    assert str(path) in (refused.value.strerror or "")


def test_the_key_of_another_certificate(make: Make) -> None:
    here, other = make("here"), make("other")
    assert here.key is not None
    assert other.key is not None
    here.key.write_bytes(other.key.read_bytes())
    with pytest.raises(WireError, match=r"cannot be used: .*mismatch"):
        tls.client_context(here)
    with pytest.raises(OSError, match=r"cannot be used: .*mismatch"):
        tls.server_context(here)


def test_a_key_with_a_password(make: Make) -> None:
    """Nobody is there to give it."""
    here = make("here")
    assert here.key is not None
    key = serialization.load_pem_private_key(here.key.read_bytes(), None)
    here.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(WireError, match="cannot be used"):
        tls.client_context(here)
