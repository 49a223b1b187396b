"""xend's end of xenstored: starting it, and handing it the sockets of domains. Blocks, for a bounded time."""

import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xenion.dom0.xenstore import folder as places

TIMEOUT_S = 30.0
"""For an answer, and for the daemon's start; it is always far quicker unless it hangs."""
_PACKET_BYTES = 1 << 20
_READY = b"ready\n"
_COMMAND = (sys.executable, "-m", "xenion.dom0.xenstore")


class StoreControlError(Exception):
    """xenstored cannot be started or reached, or refuses; the message is a sentence."""


class StoreControl:
    """A connection to a daemon's xenstored.ctl. StoreControlError from everything."""

    def __init__(self, stream: socket.socket, path: Path) -> None:
        self._stream = stream
        self._path = path

    @classmethod
    def connect(cls, path: Path, timeout: float = TIMEOUT_S) -> "StoreControl":
        """`path` of the socket xenstored.ctl."""
        try:
            return cls(places.connect(path, socket.SOCK_SEQPACKET, timeout), path)
        except OSError as error:
            raise StoreControlError(
                f"xenstored cannot be reached at {path}: {error.strerror or error}"
            ) from error

    def introduce(self, domid: int, uuid: str) -> tuple[socket.socket, socket.socket]:
        """Sockets for a domain, its own and its process's, new ones if it was introduced before; the caller's."""
        ours, theirs = zip(*(socket.socketpair() for _ in range(2)), strict=True)
        try:
            self._ask({"do": "introduce", "domid": domid, "uuid": uuid}, [end.fileno() for end in theirs])
        except BaseException:
            for end in ours:
                end.close()
            raise
        finally:
            for end in theirs:
                end.close()
        return ours[0], ours[1]

    def release(self, domid: int) -> None:
        """A domain is gone; one that is not known is fine."""
        self._ask({"do": "release", "domid": domid})

    def list(self) -> Sequence[dict[str, Any]]:
        """The introduced domains: `domid`, `uuid`, and whether they are `connected`."""
        return tuple(self._ask({"do": "list"}).get("domains", ()))

    def stop(self) -> None:
        """The daemon ends in order; what the store is stays in its folder."""
        self._ask({"do": "stop"})

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> "StoreControl":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, request: dict[str, Any], descriptors: Sequence[int] = ()) -> dict[str, Any]:
        try:
            socket.send_fds(self._stream, [json.dumps(request).encode()], descriptors)
            data = self._stream.recv(_PACKET_BYTES)
            answer = json.loads(data) if data else None
        except (OSError, ValueError) as error:
            raise StoreControlError(f"xenstored at {self._path} does not answer: {error}") from error
        if not isinstance(answer, dict):
            raise StoreControlError(f"xenstored at {self._path} has hung up: look into its log")
        if "error" in answer:
            raise StoreControlError(str(answer["error"]))
        done = answer.get("done")
        return done if isinstance(done, dict) else {}


def start(
    folder: Path,
    log: int,
    timeout: float = TIMEOUT_S,
    environment: Mapping[str, str] | None = None,
    idle_s: float | None = None,
) -> "subprocess.Popen[bytes]":
    """A daemon for the folder, in a session of its own, that serves; its words go to the descriptor `log`.

    `environment`: ours when it is None. `idle_s`: it ends when nobody has been connected for so long.

    StoreControlError, with its reason when it gives one, and no process is left.
    """
    ready, told = os.pipe()
    idle = () if idle_s is None else ("--idle", str(idle_s))
    try:
        child = subprocess.Popen(
            [*_COMMAND, "--folder", folder, "--ready-fd", str(told), *idle],
            pass_fds=(told,),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=environment,
        )
    except OSError as error:
        os.close(ready)
        raise StoreControlError(f"xenstored cannot be started: {error.strerror}") from error
    finally:
        os.close(told)
    try:
        said = _read_line(ready, timeout)
    finally:
        os.close(ready)
    if said == _READY:
        return child
    child.kill()
    child.wait()
    if said is None:
        raise StoreControlError(
            f"xenstored for {folder} does not get ready within {timeout:.0f} s: look into its log"
        )
    reason = said.decode("utf-8", "replace").strip()
    raise StoreControlError(reason or f"xenstored for {folder} ended at its start: look into its log")


def _read_line(fd: int, timeout: float) -> bytes | None:
    """All that comes up to a newline or the end; None when it takes too long."""
    said = b""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    while not said.endswith(b"\n"):
        if not poller.poll(timeout * 1000):
            return None
        data = os.read(fd, 4096)
        if not data:
            break
        said += data
    return said
