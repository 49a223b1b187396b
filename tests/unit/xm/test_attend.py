"""What stands in the way of a console is told. The rest is in test_console.py."""

import pytest

from tests.unit.xm.fake_xend import FakeXend, domain
from xenion.xm.attend import attend
from xenion.xm.calls import connected
from xenion.xm.errors import XmError


def test_a_console_on_another_host(xend: FakeXend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XEND_URL", "https://elsewhere")
    with connected() as client, pytest.raises(XmError, match="xend is on another host"):
        attend(client, domain())
