"""Sockets in folders as deep as they may be."""

import os
import socket
from pathlib import Path

import pytest

from tests.descriptors import descriptors
from xenion.api.addresses import address_of, bind, connect


def test_a_long_path(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 200) / ("y" * 200)
    folder.mkdir(parents=True)
    before = descriptors()
    with bind(folder / "sock") as listener:
        assert (folder / "sock").stat().st_mode & 0o777 == 0o600
        with pytest.raises(ConnectionRefusedError):
            connect(folder / "sock")
        listener.listen(1)
        with connect(folder / "sock", timeout=5) as near, listener.accept()[0] as far:
            near.sendall(b"x")
            assert far.recv(1) == b"x"
        with pytest.raises(OSError, match="in use"):
            bind(folder / "sock")
    assert descriptors() == before


@pytest.mark.parametrize("mask", [0, 0o777])
def test_the_mode_is_the_users_own(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        bind(tmp_path / "sock", socket.SOCK_SEQPACKET).close()
    finally:
        os.umask(before)
    assert (tmp_path / "sock").stat().st_mode & 0o777 == 0o600


def test_what_is_not_there(tmp_path: Path) -> None:
    before = descriptors()
    for path in (tmp_path / "sock", tmp_path / "missing" / "sock"):
        with pytest.raises(FileNotFoundError):
            connect(path)
    with pytest.raises(FileNotFoundError), address_of(tmp_path / "missing" / "sock"):
        pass
    assert descriptors() == before
