"""The back ends' end of the store: requests that are answered later, and watches. On Dom0's thread only.

xenstored may be killed and come back: what was not answered is asked again, and watches stay (it keeps them).
So there are no transactions here, and every request may happen twice.
"""

import socket
from collections import deque
from collections.abc import Callable, Sequence

from xenion.abi.errno import Errno
from xenion.abi.io.xs_wire import XENSTORE_PAYLOAD_MAX, XsdSockmsgType
from xenion.dom0.loop import Loop
from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.link import StoreLink
from xenion.dom0.xenstore.perms import Perms
from xenion.dom0.xenstore.wire import Message

COMPLAINTS = 20
_EVENT, _ERROR = int(XsdSockmsgType.WATCH_EVENT), int(XsdSockmsgType.ERROR)

Answer = bytes | StoreError
Then = Callable[[Answer], None]


def _nothing(_answer: Answer) -> None:
    return


class StoreClient:
    """Without a connection (before `connect`, or while xenstored is away) requests wait."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._link: StoreLink | None = None
        self._unanswered: deque[tuple[Message, Then]] = deque()
        self._number = 0
        self._watches: dict[str, Callable[[str], None]] = {}
        self._token = 0
        self.on_refused: Callable[[str], None] = lambda text: None
        """Gets a sentence when the store does not do what nobody waits for, the first COMPLAINTS times."""
        self._complaints = 0

    # --- the connection

    def connect(self, stream: socket.socket) -> None:
        """The one to use from now on."""
        self.close()
        self._link = StoreLink(stream, self._loop, self._received)
        for message, _ in self._unanswered:
            self._link.send(message)

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    # --- requests

    def read(self, path: str, then: Then) -> None:
        """`then` gets the value, or why there is none."""
        self._ask(XsdSockmsgType.READ, path.encode() + b"\0", then)

    def directory(self, path: str, then: Then) -> None:
        """`then` gets the children's names, each with a zero behind it."""
        self._ask(XsdSockmsgType.DIRECTORY, path.encode() + b"\0", then)

    def perms(self, path: str, then: Then) -> None:
        """`then` gets them as `set_perms` sends them."""
        self._ask(XsdSockmsgType.GET_PERMS, path.encode() + b"\0", then)

    def write(self, path: str, value: str | bytes, then: Then | None = None) -> None:
        data = value.encode() if isinstance(value, str) else value
        self._ask(XsdSockmsgType.WRITE, path.encode() + b"\0" + data, then or self._done_to(path))

    def mkdir(self, path: str, then: Then | None = None) -> None:
        self._ask(XsdSockmsgType.MKDIR, path.encode() + b"\0", then or self._done_to(path))

    def remove(self, path: str, then: Then | None = None) -> None:
        """With all below it."""
        self._ask(XsdSockmsgType.RM, path.encode() + b"\0", then or self._done_to(path))

    def set_perms(self, path: str, perms: Perms | str, then: Then | None = None) -> None:
        """`perms` may be what `perms` has got."""
        entries = perms if isinstance(perms, str) else "".join(f"{perm}\0" for perm in perms)
        self._ask(XsdSockmsgType.SET_PERMS, f"{path}\0{entries}".encode(), then or self._done_to(path))

    def _done_to(self, path: str) -> Then:
        """What is missing has been removed by whom it belongs to."""

        def answered(answer: Answer) -> None:
            if isinstance(answer, StoreError) and answer.errno != Errno.ENOENT:
                self._complaints += 1
                if self._complaints <= COMPLAINTS:
                    self.on_refused(f"xenstored does not change {path}: {answer.errno.name}")

        return answered

    def watch(self, path: str, changed: Callable[[str], None]) -> str:
        """`changed(path)` soon, and whenever that path or one below it changes; the token is for `unwatch`."""
        self._token += 1
        token = f"{self._token}"
        self._watches[token] = changed
        self._ask(XsdSockmsgType.WATCH, f"{path}\0{token}\0".encode(), _nothing)
        return token

    def unwatch(self, path: str, token: str) -> None:
        self._watches.pop(token, None)
        self._ask(XsdSockmsgType.UNWATCH, f"{path}\0{token}\0".encode(), _nothing)

    def reset(self) -> None:
        """Of all watches that this process or an earlier one has set."""
        self._watches.clear()
        self._ask(XsdSockmsgType.RESET_WATCHES, b"\0", _nothing)

    def settle(self, then: Callable[[], None]) -> None:
        """Calls `then` when everything asked so far has been answered."""
        self.read("/tool/xenstored", lambda _: then())

    def read_all(self, path: str, depth: int, most: int, then: Callable[[dict[str, str]], None]) -> None:
        """Every node below `path` by its relative path, `depth` levels of them; not more than `most` are looked at."""
        _Walk(self, path, depth, most, then)

    def _ask(self, kind: XsdSockmsgType, payload: bytes, then: Then) -> None:
        """What no message can carry fails with E2BIG."""
        if len(payload) > XENSTORE_PAYLOAD_MAX:
            refusal = StoreError(Errno.E2BIG, f"a request of {len(payload)} bytes")
            self._loop.soon(lambda: then(refusal))
            return
        self._number = self._number % 0xFFFF_FFFF + 1
        message = Message(int(kind), self._number, 0, payload)
        self._unanswered.append((message, then))
        if self._link is not None:
            self._link.send(message)

    # --- what comes back

    def _received(self, message: Message) -> None:
        if message.type == _EVENT:
            path, token, *_ = [*message.payload.split(b"\0"), b"", b""]
            changed = self._watches.get(token.decode("latin-1"))
            if changed is not None:
                changed(path.decode("latin-1"))
        elif self._unanswered and message.req_id == self._unanswered[0][0].req_id:
            _, then = self._unanswered.popleft()
            then(_refusal(message.payload) if message.type == _ERROR else message.payload)


def _refusal(payload: bytes) -> StoreError:
    name = payload.rstrip(b"\0").decode("latin-1")
    return StoreError(Errno.__members__.get(name, Errno.EINVAL), "the store refuses it")


class _Walk:
    """Reads a small tree, one node after the other."""

    def __init__(
        self,
        client: StoreClient,
        path: str,
        depth: int,
        most: int,
        then: Callable[[dict[str, str]], None],
    ) -> None:
        self._client, self._path, self._then = client, path, then
        self._left = most
        """Nodes that may still be looked at: those that vanish meanwhile count, or a guest could keep us at it."""
        self._todo: deque[tuple[str, int]] = deque()
        self._found: dict[str, str] = {}
        self._list("", depth)

    def _list(self, below: str, depth: int) -> None:
        def listed(answer: Answer) -> None:
            names: Sequence[bytes] = [] if isinstance(answer, StoreError) else answer.split(b"\0")[:-1]
            prefix = f"{below}/" if below else ""
            room = self._left - len(self._todo)
            self._todo += [(prefix + name.decode("latin-1"), depth - 1) for name in names[:room]]
            self._go_on()

        self._client.directory(f"{self._path}/{below}" if below else self._path, listed)

    def _go_on(self) -> None:
        if not self._todo:
            self._then(self._found)
            return
        name, depth = self._todo.popleft()
        self._left -= 1

        def read(answer: Answer) -> None:
            if not isinstance(answer, StoreError):
                self._found[name] = answer.decode("latin-1")
            if depth:
                self._list(name, depth)
            else:
                self._go_on()

        self._client.read(f"{self._path}/{name}", read)
