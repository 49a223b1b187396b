"""The conversation between xend and the switch: one JSON object a packet, either way, on a SOCK_SEQPACKET socket.

Requests: {"do": "plug", "network": NAME, "port": ID} with one stream socket, {"do": "unplug", ...}, {"do": "list"}.
Answers: {"ok": true}, {"networks": {NAME: [{"port", "received", "sent", "dropped"}]}} or {"error": SENTENCE}.
"""

import errno
import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REQUEST_BYTES = 64 * 1024
ANSWER_BYTES = 1 << 20
ANSWER_SECONDS = 10.0


class SwitchError(Exception):
    """The switch refused, in its words."""


class SwitchGoneError(SwitchError):
    """Nobody answers at `path`: start one."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"the network switch at {path} does not answer ({error.strerror or error})")


def listen(path: Path) -> socket.socket:
    """The socket that a switch takes as `--control`; OSError, EADDRINUSE if a switch listens there.

    What a dead switch left at `path` goes away.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            code = probe.connect_ex(os.fspath(path))
        if not code:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), str(path))
        if code == errno.ECONNREFUSED:
            path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            made.bind(os.fspath(path))
        finally:
            os.umask(before)
        made.listen(16)
    except OSError:
        made.close()
        raise
    return made


class SwitchClient:
    """Blocks for ANSWER_SECONDS at most. SwitchGoneError when it cannot connect or the switch ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(ANSWER_SECONDS)
        try:
            self._socket.connect(os.fspath(path))
        except OSError as error:
            self._socket.close()
            raise SwitchGoneError(path, error) from error

    def plug(self, network: str, port: str, fd: int) -> None:
        """`fd`: a stream socket whose other end is a wire; the caller keeps its own copy. A port of that name goes."""
        self._ask({"do": "plug", "network": network, "port": port}, [fd])

    def unplug(self, network: str, port: str) -> None:
        """SwitchError: there is none."""
        self._ask({"do": "unplug", "network": network, "port": port})

    def list(self) -> dict[str, list[dict[str, Any]]]:
        """Networks with their ports and counters."""
        networks: dict[str, list[dict[str, Any]]] = self._ask({"do": "list"})["networks"]
        return networks

    def _ask(self, request: dict[str, Any], fds: Sequence[int] = ()) -> dict[str, Any]:
        message = json.dumps(request).encode()
        try:
            socket.send_fds(self._socket, [message], list(fds))
            answer = self._socket.recv(ANSWER_BYTES)
        except OSError as error:
            raise SwitchGoneError(self._path, error) from error
        if not answer:
            raise SwitchGoneError(self._path, ConnectionResetError(errno.ECONNRESET, "it has ended"))
        told: dict[str, Any] = json.loads(answer)
        if "error" in told:
            raise SwitchError(told["error"])
        return told

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> "SwitchClient":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
