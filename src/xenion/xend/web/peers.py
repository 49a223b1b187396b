"""Who is at the other end of a Unix socket."""

import os
import pwd
import socket
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from xenion.xend.call import Peer

_CREDENTIALS = struct.Struct("3i")
_ROOT = 0


@dataclass(frozen=True, slots=True)
class Credentials:
    """As they were when the peer connected."""

    pid: int
    uid: int

    @property
    def welcome(self) -> bool:
        """Only this user and root; the socket's mode says the same, for as long as nobody changes it."""
        return self.uid in (os.getuid(), _ROOT)

    def peer(self) -> Peer:
        return Peer(f"{_user(self.uid)} pid {self.pid} ({_comm(self.pid)})")


def credentials_of(connected: socket.socket) -> Credentials:
    """OSError."""
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    return Credentials(pid, uid)


@cache
def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _comm(pid: int) -> str:
    """A process names itself as it likes: nothing of it may break a line of the log."""
    try:
        name = Path(f"/proc/{pid}/comm").read_bytes().rstrip(b"\n").decode("utf-8", "replace")
    except OSError:
        return "gone"
    return "".join(c if c.isprintable() and c not in "()" else "?" for c in name)
