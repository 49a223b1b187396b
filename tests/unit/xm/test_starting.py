"""What is behind `xm create` and `xm start` and not seen in their own tests."""

import os
import socket
import sys
import threading
from pathlib import Path

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend, domain, task
from xenion.api.errors import ApiError
from xenion.xm.starting import is_not_paused


def test_paused_or_not() -> None:
    assert is_not_paused(None)
    assert is_not_paused(domain())
    assert not is_not_paused(domain(state="paused"))


@pytest.mark.parametrize("words", [["create", "CONFIG"], ["start", "web"]])
def test_a_failure_says_nothing_on_standard_output(
    xm: Xm, xend: FakeXend, config: object, words: list[str]
) -> None:
    xend.answers[words[0]] = ApiError("failed", "no")
    ran = xm(*[str(config) if word == "CONFIG" else word for word in words])
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.endswith("xm: no\n")


@pytest.mark.parametrize("paused", [False, True])
def test_a_console_that_refuses_leaves_no_domain_waiting(
    xm: Xm, xend: FakeXend, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paused: bool
) -> None:
    path = tmp_path / "console"
    with socket.socket(socket.AF_UNIX) as listener, Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        listener.bind(str(path))
        listener.listen()

        def refuse() -> None:
            with listener.accept()[0] as client:
                client.recv(1000)
                client.sendall(b'{"error": "64 others are attached already"}\n')

        threading.Thread(target=refuse, daemon=True).start()
        made = domain(state="paused", console=str(path))
        xend.answers.update(create=task(result={"domain": made}), unpause={}, domain=domain())
        ran = xm("create", "-c", *["-p"] * paused, str(config))
    assert ran.status == 1
    assert "64 others are attached already" in ran.err
    assert ("unpause" in xend.actions()) is not paused
