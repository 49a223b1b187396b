import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from tests.unit.xend.web.kit import Fakes, Serving
from xenion.xend.web.limits import Limits


@pytest.fixture
def fakes() -> Fakes:
    return Fakes()


@pytest.fixture
def start(tmp_path: Path, fakes: Fakes) -> Iterator[Callable[..., Serving]]:
    """Starts a server with these limits (and TLS); nothing that it did not expect may have happened in it."""
    started: list[Serving] = []

    def make(limits: Limits | None = None, context: ssl.SSLContext | None = None) -> Serving:
        serving = Serving(tmp_path, fakes, limits or Limits(), context)
        serving.start()
        started.append(serving)
        return serving

    yield make
    for serving in started:
        serving.stop()
        assert not serving.complaints


@pytest.fixture
def serving(start: Callable[..., Serving]) -> Serving:
    return start()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


@pytest.fixture(scope="session")
def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context
