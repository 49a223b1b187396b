"""The switch of isolated networks: a process of its own that survives xend, `python -m xenion.dom0.net.switch`.

xend hands it ports, stream sockets that carry frames after their length, over a control socket (see switch_client).
Ports of one network see each other and nothing else. A port that does not read loses frames and holds nobody up.
"""

import argparse
import json
import os
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from xenion.dom0.listener import Listener
from xenion.dom0.loop import READ, Loop, Timer
from xenion.dom0.net.stream_wire import StreamWire, widen
from xenion.dom0.net.switch_client import REQUEST_BYTES, listen
from xenion.dom0.net.switching import AddressTable
from xenion.dom0.net.wire import Frame

IDLE_SECONDS = 60.0
PORT_QUEUE_BYTES = 2 * 1024 * 1024
NAME_MOST = 200
_DESCRIPTORS_MOST = 4
_BACKLOG = 16


class RequestError(Exception):
    """What xend asked for cannot be done; the message is the answer."""


class Port:
    """One plugged socket: what comes in goes to the network, what goes out is dropped when it is slow."""

    def __init__(self, network: "Network", name: str, end: socket.socket, loop: Loop) -> None:
        self.network = network
        self.name = name
        self.received = self.sent = self.dropped = 0
        self.wire = StreamWire(end.detach(), loop, queue_bytes=PORT_QUEUE_BYTES)

    def deliver(self, frames: Sequence[Frame]) -> int:
        self.received += len(frames)
        self.network.carry(self, frames)
        return len(frames)

    def room_again(self) -> None:
        pass

    def send(self, frames: Sequence[Frame]) -> None:
        if not self.wire.room:
            self.dropped += len(frames)
            return
        lost = self.wire.send(frames)
        self.dropped += lost
        self.sent += len(frames) - lost

    def describe(self) -> dict[str, Any]:
        return {"port": self.name, "received": self.received, "sent": self.sent, "dropped": self.dropped}


class Network:
    def __init__(self) -> None:
        self.ports: dict[str, Port] = {}
        self._table: AddressTable[Port] = AddressTable(time.monotonic)

    def carry(self, source: Port, frames: Sequence[Frame]) -> None:
        table, out = self._table, {port: list[Frame]() for port in self.ports.values() if port is not source}
        for frame in frames:
            head = bytes(frame.data[:12])
            table.learn(head[6:], source)
            target = table.find(head[:6])
            if target is None:
                for queue in out.values():
                    queue.append(frame)
            elif target in out:
                out[target].append(frame)
        for port, queue in out.items():
            if queue:
                port.send(queue)

    def remove(self, port: Port) -> None:
        """Harmless when it is gone or replaced already."""
        if self.ports.get(port.name) is port:
            del self.ports[port.name]
        self._table.forget(port)
        port.wire.close()


class Switch:
    """All networks, and the conversation with xend on `listener`. Ends by itself when it has been without a port for
    `idle` seconds."""

    def __init__(self, listener: socket.socket, loop: Loop, idle: float) -> None:
        self.networks: dict[str, Network] = {}
        self._loop = loop
        self._idle = idle
        self._timer: Timer | None = None
        self._path = listener.getsockname()
        self._listener = Listener(listener, loop, self._connected, _BACKLOG)
        self._clients: set[socket.socket] = set()
        self._listener.start()
        self._rest()

    def _rest(self) -> None:
        if not self.networks and self._timer is None:
            self._timer = self._loop.later(self._idle, self._end)

    def _end(self) -> None:
        with suppress(OSError):
            Path(os.fsdecode(self._path)).unlink()
        self._listener.close()
        for client in list(self._clients):
            self._leave(client)
        self._loop.stop()

    # --- xend

    def _connected(self, client: socket.socket) -> None:
        self._clients.add(client)
        self._loop.watch(client.fileno(), READ, lambda mask: self._serve(client))

    def _leave(self, client: socket.socket) -> None:
        self._loop.watch(client.fileno(), 0, lambda mask: None)
        self._clients.discard(client)
        client.close()

    def _serve(self, client: socket.socket) -> None:
        try:
            message, fds, _, _ = socket.recv_fds(client, REQUEST_BYTES, _DESCRIPTORS_MOST)
        except BlockingIOError:
            return
        except OSError:
            message, fds = b"", []
        ends = [socket.socket(fileno=fd) for fd in fds if _is_socket(fd)]
        try:
            if not message:
                self._leave(client)
                return
            client.send(json.dumps(self._answer(message, ends)).encode())
        except OSError:
            self._leave(client)
        finally:
            for end in ends:
                end.close()

    def _answer(self, message: bytes, ends: list[socket.socket]) -> dict[str, Any]:
        try:
            request = json.loads(message)
            if not isinstance(request, dict):
                raise RequestError("a request is a JSON object")
            return self._do(request, ends)
        except ValueError:
            return {"error": "a request is a JSON object"}
        except RequestError as error:
            return {"error": str(error)}

    def _do(self, request: dict[str, Any], ends: list[socket.socket]) -> dict[str, Any]:
        what = request.get("do")
        if what == "list":
            return {
                "networks": {n: [p.describe() for p in w.ports.values()] for n, w in self.networks.items()}
            }
        network, port = _name(request, "network"), _name(request, "port")
        if what == "plug":
            if len(ends) != 1:
                raise RequestError(f"plug comes with one socket, not with {len(ends)}")
            self.plug(network, port, ends[0])
        elif what == "unplug":
            self.unplug(network, port)
        else:
            raise RequestError(f"the switch cannot {str(what)[:40]!r}: plug, unplug and list are known")
        return {"ok": True}

    # --- networks

    def plug(self, network: str, name: str, end: socket.socket) -> None:
        """A port of that name gives way."""
        there = self.networks.setdefault(network, Network())
        if (old := there.ports.get(name)) is not None:
            there.remove(old)
        with suppress(OSError):
            widen(end)
        port = there.ports[name] = Port(there, name, end, self._loop)
        port.wire.on_lost = lambda sentence: self._lost(network, port)
        port.wire.attach(port)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def unplug(self, network: str, name: str) -> None:
        port = self.networks[network].ports.get(name) if network in self.networks else None
        if port is None:
            raise RequestError(f"there is no port {name} in network {network}")
        self._lost(network, port)

    def _lost(self, network: str, port: Port) -> None:
        port.network.remove(port)
        if self.networks.get(network) is port.network and not port.network.ports:
            del self.networks[network]
        self._rest()


def _is_socket(fd: int) -> bool:
    """Anything else is closed."""
    try:
        socket.socket(fileno=fd).detach()
    except OSError:
        os.close(fd)
        return False
    return True


def _name(request: dict[str, Any], key: str) -> str:
    name = request.get(key)
    if not isinstance(name, str) or not 0 < len(name) <= NAME_MOST:
        raise RequestError(f"{key} is a name of 1 to {NAME_MOST} characters")
    return name


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m xenion.dom0.net.switch", description=(__doc__ or "").split("\n")[0]
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--control", type=int, metavar="FD", help="an inherited listening SOCK_SEQPACKET socket"
    )
    where.add_argument("--socket", type=Path, metavar="PATH", help="listen there")
    parser.add_argument(
        "--idle", type=float, default=IDLE_SECONDS, help="seconds without a port after which it ends"
    )
    options = parser.parse_args(arguments)
    with suppress(PermissionError):
        os.setsid()
    try:
        listener = listen(options.socket) if options.socket else socket.socket(fileno=options.control)
    except OSError as error:
        where_text = options.socket or f"descriptor {options.control}"
        print(f"the network switch cannot listen on {where_text}: {error.strerror}", file=sys.stderr)
        return 1
    loop = Loop()
    Switch(listener, loop, options.idle)
    loop.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
