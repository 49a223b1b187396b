"""What runs while xend is killed again and again: domains come and go, consoles are read, nothing may be lost."""

import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.exceptions import WebSocketException
from websockets.sync.client import unix_connect

from xenion.api.client import BrokenError, Client
from xenion.api.console import ConsoleError, attach
from xenion.api.errors import ApiError, UnreachableError
from xenion.api.folders import Folders
from xenion.xm.progress import accomplish

LINE = re.compile(rb"line (\d+)\r?\n")
ATTEMPTS = 50


def persistently(do: Callable[[], Any]) -> Any:
    """`do` again and again while xend ends under it; UnreachableError when that does not stop."""
    for attempt in range(ATTEMPTS):
        try:
            return do()
        except UnreachableError:
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("no attempt was made")


class Reader:
    """Reads a domain's console straight from its process, and checks that its numbered lines are all there."""

    def __init__(self, console: Path, stop: threading.Event) -> None:
        self.lines = 0
        self.wrong: list[str] = []
        self._console = console
        self._stop = stop
        self._at, self._rest = 0, b""

    def run(self) -> None:
        while not self._stop.is_set():
            try:
                attached = attach(self._console, self._at)
            except (OSError, ConsoleError) as error:
                self.wrong.append(f"the console cannot be attached to: {error}")
                return
            self._begin(attached.first, attached.lost)
            attached.stream.settimeout(0.2)
            with attached.stream, suppress(TimeoutError):
                for _ in range(random.randrange(1, 20)):  # then it comes back to its byte
                    self._take(attached.stream.recv(4096))

    def _begin(self, first: int, lost: int) -> None:
        if lost or first != self._at:
            self.wrong.append(f"{lost} bytes before {first} are lost")

    def _take(self, data: bytes) -> None:
        self._at += len(data)
        self._rest = self._check(self._rest + data)

    def _check(self, data: bytes) -> bytes:
        """What is not a whole line yet."""
        end = data.rfind(b"\n") + 1
        for number in LINE.findall(data[:end]):
            if int(number) != self.lines:
                self.wrong.append(f"line {int(number)} instead of {self.lines}")
                self.lines = int(number)
            self.lines += 1
        return data[end:]


class RelayReader(Reader):
    """The same through xend's WebSocket, which goes with every xend: it comes back to its byte."""

    def __init__(self, where: Folders, uuid: str, stop: threading.Event) -> None:
        super().__init__(where.socket, stop)
        self._uuid = uuid
        self.visits = 0

    def run(self) -> None:
        while not self._stop.is_set():
            with suppress(OSError, WebSocketException, TimeoutError):
                self._visit()

    def _visit(self) -> None:
        uri = f"ws://xend/v1/domains/{self._uuid}/console?since={self._at}&read_only=true"
        with unix_connect(str(self._console), uri, open_timeout=5, close_timeout=1) as relay:
            self._begin(**json.loads(relay.recv(timeout=5)))
            self.visits += 1
            while not self._stop.is_set():
                data = relay.recv(timeout=1)
                self._take(data if isinstance(data, bytes) else data.encode())


class Worker:
    """Creates and destroys domains of its own; after each step what xend says must be what was done."""

    def __init__(self, where: Folders, config: dict[str, Any], name: str, stop: threading.Event) -> None:
        self.wrong: list[str] = []
        self.rounds = 0
        self._client = Client(where)
        self._config = config
        self._name = name
        self._stop = stop

    def run(self) -> None:
        try:
            while not self._stop.is_set():
                self._round(f"{self._name}-{self.rounds}")
                self.rounds += 1
        except (ApiError, UnreachableError, AssertionError) as error:
            self.wrong.append(f"{self._name}, round {self.rounds}: {error}")
        finally:
            self._client.close()

    def _round(self, name: str) -> None:
        config = {**self._config, "name": name}
        result = persistently(lambda: accomplish(self._client, "create", {"config": config}))
        uuid = result["domain"]["uuid"]
        found = persistently(lambda: self._client.call("domain", domain=name))
        assert found["uuid"] == uuid, f"{name} was created twice"
        with attach(Path(found["console"])).stream as stream:
            assert stream.recv(6) == b"hello\n"
        self._hold(uuid)
        if self.rounds % 2:
            name = self._renamed(name, uuid)
        self._destroy(uuid)
        names = {domain["name"] for domain in persistently(lambda: self._client.call("list"))["domains"]}
        assert name not in names, f"{name} is there after its end"

    def _hold(self, uuid: str) -> None:
        """Paused and let go, dumped in between: whatever the answer of a xend that dies, the domain is in one piece."""
        for action in ("pause", "dump", "unpause"):
            with suppress(BrokenError):
                self._client.call(action, domain=uuid)
        persistently(lambda: self._client.call("unpause", domain=uuid))
        found = persistently(lambda: self._client.call("domain", domain=uuid))
        journal = Path(found["console"]).with_name("journal").read_text()
        assert found["state"] in ("running", "blocked"), (
            f"{uuid} is {found['state']} after unpause: {journal}"
        )

    def _renamed(self, name: str, uuid: str) -> str:
        """Before or after: never in between."""
        try:
            self._client.call("rename", {"name": f"{name}-new"}, domain=uuid)
        except BrokenError:
            now = str(persistently(lambda: self._client.call("domain", domain=uuid))["name"])
            assert now in (name, f"{name}-new")
            return now
        return f"{name}-new"

    def _destroy(self, uuid: str) -> None:
        try:
            self._client.call("destroy", domain=uuid)
        except BrokenError:
            persistently(lambda: self._gone_or_destroyed(uuid))

    def _gone_or_destroyed(self, uuid: str) -> None:
        try:
            self._client.call("destroy", domain=uuid)
        except ApiError as error:
            if error.code not in ("no-such-domain", "wrong-state"):
                raise
            outcome = self._client.call("outcome", uuid=uuid, query={"wait": 20})
            assert outcome["over"], f"{uuid} goes on after it was destroyed"


@contextmanager
def running(*jobs: "Reader | Worker") -> Iterator[None]:
    threads = [threading.Thread(target=job.run) for job in jobs]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        deadline = time.monotonic() + 120
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0))
        assert not [thread for thread in threads if thread.is_alive()], "the load does not end"
