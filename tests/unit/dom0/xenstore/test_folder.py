"""The daemon's folder: its lock, and sockets with long paths."""

import os
import socket
from pathlib import Path

import pytest

from xenion.dom0.xenstore import folder as places
from xenion.dom0.xenstore.folder import FolderError


def test_one_holds_the_lock(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    fd = places.lock(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / places.LOCK).read_text() == f"{os.getpid()}\n"
    with pytest.raises(FolderError, match=f"another xenstored, process {os.getpid()}: stop it"):
        places.lock(folder)
    os.close(fd)
    os.close(places.lock(folder))


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="cannot be used"):
        places.lock(tmp_path / "missing" / "run")


def test_a_path_may_be_longer_than_an_address(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    for _ in range(2):  # what a former daemon has left is no obstacle
        listener = places.bind(folder / places.SOCKET, socket.SOCK_STREAM)
        listener.listen()
        assert (folder / places.SOCKET).stat().st_mode & 0o777 == 0o600
        places.connect(folder / places.SOCKET, socket.SOCK_STREAM, 60).close()
        listener.close()
    with pytest.raises(ConnectionRefusedError):
        places.connect(folder / places.SOCKET, socket.SOCK_STREAM, 60)
    with pytest.raises(FolderError, match="cannot be bound"):
        places.bind(tmp_path / "missing" / places.SOCKET, socket.SOCK_STREAM)
