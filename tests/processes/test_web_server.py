"""schemathesis against the real server over TLS: whatever comes, no 5xx, and answers are as the document says."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
import trustme
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.unit.xend.web.conftest import authority, server_context
from tests.unit.xend.web.kit import TOKEN, Fakes, Serving
from xenion.xend.web.limits import Limits
from xenion.xend.web.openapi import document

__all__ = ["authority", "server_context"]
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
PICKY = {
    "GET /v1/domains/{domain}/console",
    "POST /v1/domains",
    "POST /v1/managed",
    "PUT /v1/domains/{domain}/config",
    "POST /v1/domains/{domain}/disks",
    "POST /v1/domains/{domain}/interfaces",
}
"""What their schemas allow is not all that they take: an upgrade is needed, integers have 64 bits."""
schema = schemathesis.openapi.from_dict({**document(), "security": []})  # the token is in test_server.py
few = settings(
    max_examples=6, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
many = settings(few, max_examples=500, derandomize=False)


@pytest.fixture(scope="module")
def session(
    tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA, server_context: ssl.SSLContext
) -> Iterator[requests.Session]:
    folder: Path = tmp_path_factory.mktemp("fuzz")
    serving = Serving(folder, Fakes(), Limits(), server_context)
    serving.start()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    with requests.Session() as made:
        made.trust_env = False
        made.verify = str(folder / "ca.pem")
        made.base_url = f"https://127.0.0.1:{serving.port}"  # type: ignore[attr-defined]
        yield made
    serving.stop()
    assert not serving.complaints


def check(case: Any, session: requests.Session) -> None:
    case.call_and_validate(
        base_url=session.base_url,  # type: ignore[attr-defined]
        session=session,
        headers=HEADERS,
        verify=session.verify,
        excluded_checks=[positive_data_acceptance] if case.operation.label in PICKY else [],
    )


@schema.parametrize()
@few
def test_a_few(case: Any, session: requests.Session) -> None:
    check(case, session)


@pytest.mark.slow
@schema.parametrize()
@many
def test_many(case: Any, session: requests.Session) -> None:
    check(case, session)
