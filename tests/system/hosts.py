"""Two hosts in one: xends with folders of their own, which take each other's domains on loopback, and a line between
them on which things go wrong."""

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from tests.system.xm import Xm

GREETING, HEADER = 12, struct.Struct("<cII")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Host(Xm):
    """`address` is where its xend takes domains, `allow` who may send some; `more` is what else its xend.toml has in
    [migration]. xend is run by the command `before`."""

    def __init__(
        self,
        folder: Path,
        more: str = "",
        *,
        address: str = "",
        allow: str = "127.0.0.0/8",
        before: Sequence[str] = (),
    ) -> None:
        folder.mkdir()
        super().__init__(folder)
        self.address = address or f"127.0.0.1:{free_port()}"
        self._before = before
        settings = folder / "config" / "xenion" / "xend.toml"
        settings.parent.mkdir(parents=True)
        settings.write_text(f'[migration]\nlisten = "{self.address}"\nallow = ["{allow}"]\n{more}')
        self.wake()

    def wake(self) -> None:
        """Its xend listens then."""
        assert self.run("info", before=self._before).status == 0


Fault = Callable[[], None]


class Line:
    """Carries connections to a host. The first one of them to which the message `word` comes is dealt with: `before` or
    `after` the message was passed on `fault` is called, and with `cut` nothing more passes, either way, with `down` not
    by a new connection either; with `spoil` a bit of the message is turned over."""

    def __init__(
        self, host: Host, word: str, *, before: Fault | None = None, after: Fault | None = None,
        cut: bool = False, down: bool = False, spoil: bool = False,
    ) -> None:  # fmt: skip
        address, _, port = host.address.rpartition(":")
        self._target = address, int(port)
        self._word, self._before, self._after = word, before, after
        self._cut, self._down, self._spoil = cut or down, down, spoil
        self.struck = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._in_thread(self._accept)

    def _in_thread(self, work: Callable[..., None], *words: socket.socket) -> None:
        thread = threading.Thread(target=work, args=words, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                self._ends.append(near)
                try:
                    far = socket.create_connection(self._target)
                except OSError:
                    near.shutdown(socket.SHUT_RDWR)
                    continue
                self._ends.append(far)
                self._in_thread(self._carry, near, far)
                self._in_thread(self._carry, far, near)

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            for word, frame in _frames(one):
                strikes = word == self._word and not self.struck.is_set()
                if strikes:
                    self.struck.set()
                    if self._spoil:
                        frame = frame[:-2] + bytes([frame[-2] ^ 1]) + frame[-1:]
                    if self._before:
                        self._before()
                if not (strikes and self._cut and not self._after):
                    other.sendall(frame)
                if strikes and self._after:
                    self._after()
                if strikes and self._down:  # before an end is: who sees that comes again at once
                    self._server.shutdown(socket.SHUT_RDWR)
                if strikes and self._cut:
                    break
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Nothing passes any more, and nobody comes. Again is fine."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in (self._server, *self._ends):
            end.close()

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _frames(stream: socket.socket) -> Iterator[tuple[str, bytes]]:
    """What comes, with the word of each message: "data" for what is none."""
    with stream.makefile("rb") as file:
        yield "greeting", file.read(GREETING)
        while len(header := file.read(HEADER.size)) == HEADER.size:
            kind, size, _ = HEADER.unpack(header)
            data = file.read(size)
            yield json.loads(data)["type"] if kind == b"J" else "data", header + data
