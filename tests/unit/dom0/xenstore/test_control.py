"""xend's end of xenstored, and what it says when the other end is not as it should be."""

import os
import socket
from pathlib import Path

import pytest

from tests.descriptors import descriptors
from xenion.dom0.xenstore import folder as places
from xenion.dom0.xenstore.control import StoreControl, StoreControlError, start


def test_nobody_is_there(tmp_path: Path) -> None:
    with pytest.raises(StoreControlError, match=r"cannot be reached at .*xenstored\.ctl: No such file"):
        StoreControl.connect(tmp_path / places.CONTROL)


def pair(timeout: float = 60) -> tuple[StoreControl, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(timeout)
    return StoreControl(ours, Path("ctl")), theirs


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b'{"error": "a sentence"}', "a sentence"),
        (b"[]", "has hung up"),
        (b"{", "does not answer"),
        (b"", "has hung up"),
    ],
)
def test_what_is_refused_or_no_answer(answer: bytes, reason: str) -> None:
    control, theirs = pair()
    with control, theirs:
        if answer:
            theirs.send(answer)
        else:
            theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(StoreControlError, match=reason):
            control.release(5)


def test_an_answer_that_does_not_come_is_not_waited_for_forever() -> None:
    control, theirs = pair(timeout=0.01)
    with control, theirs, pytest.raises(StoreControlError, match="does not answer: timed out"):
        control.stop()


def test_a_domain_that_is_refused_leaves_no_descriptor() -> None:
    control, theirs = pair()
    with control, theirs:
        before = len(descriptors())
        theirs.send(b'{"error": "no"}')
        with pytest.raises(StoreControlError):
            control.introduce(5, "x")
        data, sent, _, _ = socket.recv_fds(theirs, 4096, 4)
        assert data == b'{"do": "introduce", "domid": 5, "uuid": "x"}'
        assert len(sent) == 2
        for fd in sent:
            os.close(fd)
        assert len(descriptors()) == before


def test_a_folder_that_cannot_be_used_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(StoreControlError, match="cannot be used"):
        start(tmp_path / "file" / "run", log)
    os.close(log)
