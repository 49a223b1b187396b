"""User-mode networking without passt: a process a vif, `python -m xenion.dom0.net.slirp`, on libslirp.

The guest gets an address by DHCP and is behind this host's sockets; ports of the host lead to it where --forward says
so. It ends when the other side of its stream socket is closed.
"""

import argparse
import ipaddress
import os
import select
import socket
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from xenion.dom0.net.framing import PREFIX, FramingError, Inbox
from xenion.dom0.net.libslirp import (
    POLL_ERR,
    POLL_HUP,
    POLL_IN,
    POLL_OUT,
    POLL_PRI,
    ForwardError,
    MissingLibraryError,
    Slirp,
    SlirpNetwork,
)

QUEUE_BYTES = 512 * 1024
"""More than this for the guest, and sockets are not read; twice this, and frames are dropped."""
LONGEST_WAIT_MS = 60_000
_EVENTS = ((POLL_IN, select.POLLIN), (POLL_OUT, select.POLLOUT), (POLL_PRI, select.POLLPRI),
           (POLL_ERR, select.POLLERR), (POLL_HUP, select.POLLHUP))  # fmt: skip


class Pump:
    """Between the guest's stream socket and the stack."""

    def __init__(self, end: socket.socket, network: SlirpNetwork) -> None:
        end.setblocking(False)
        self._end = end
        self._inbox = Inbox()
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._fed = False
        self.dropped = 0
        self.slirp = Slirp(network, self._to_guest)

    def run(self) -> None:
        """Until the other side is gone. FramingError."""
        while self._turn():
            pass

    def _turn(self) -> bool:
        waiting = select.poll()
        sockets: list[int] = []

        def add(fd: int, events: int) -> int:
            sockets.append(fd)
            waiting.register(fd, sum(poll for slirp, poll in _EVENTS if events & slirp))
            return len(sockets) - 1

        timeout = LONGEST_WAIT_MS
        serves = self._queued <= QUEUE_BYTES
        if serves:
            timeout = self.slirp.fill(add, timeout)
        own = self._end.fileno()
        waiting.register(own, select.POLLIN | (select.POLLOUT if self._queue else 0))
        # What a frame of the guest has set free (an ARP answer, say) goes on in the stack's next poll only.
        ready = dict(waiting.poll(0 if self._fed else timeout))
        self._fed = False
        if serves:
            self.slirp.poll(lambda index: _slirp_events(ready.get(sockets[index], 0)))
        if ready.get(own, 0) & select.POLLOUT:
            self._flush()
        return not ready.get(own, 0) & ~select.POLLOUT or self._from_guest()

    # --- the guest's side

    def _from_guest(self) -> bool:
        """Whether it is still there."""
        try:
            count = self._end.recv_into(self._inbox.free)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not count:
            return False
        self._inbox.filled(count)
        for frame in self._inbox.frames:
            self.slirp.input(frame)
        self._inbox.used(len(self._inbox.frames))
        self._fed = True
        return True

    def _to_guest(self, frame: memoryview) -> None:
        if self._queued > 2 * QUEUE_BYTES:
            self.dropped += 1
            return
        data = PREFIX.pack(len(frame)) + frame
        sent = 0 if self._queue else self._write(data)
        if sent < len(data):
            self._queue.append(data[sent:])
            self._queued += len(data) - sent

    def _flush(self) -> None:
        while self._queue:
            sent = self._write(self._queue[0])
            self._queued -= sent
            if sent < len(self._queue[0]):
                self._queue[0] = self._queue[0][sent:]
                return
            self._queue.popleft()

    def _write(self, data: bytes) -> int:
        try:
            return self._end.send(data)
        except OSError:  # full, or gone, which the next read says
            return 0


def _slirp_events(ready: int) -> int:
    return sum(slirp for slirp, poll in _EVENTS if ready & poll)


def _forward(text: str) -> tuple[str, str, int, int]:
    """tcp:127.0.0.1:2222:22."""
    protocol, _, rest = text.partition(":")
    host, _, ports = rest.rpartition(":")
    host, _, host_port = host.rpartition(":")
    address = ipaddress.ip_address(host.strip("[]"))
    numbers = int(host_port), int(ports)
    if protocol not in ("tcp", "udp") or not all(0 < number < 65536 for number in numbers):
        raise ValueError(text)
    return protocol, str(address), *numbers


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m xenion.dom0.net.slirp", description=(__doc__ or "").split("\n")[0]
    )
    four = ipaddress.IPv4Address
    parser.add_argument(
        "--fd", type=int, required=True, help="an inherited stream socket: each frame after its length"
    )
    parser.add_argument("--network", type=ipaddress.IPv4Network, default="10.0.2.0/24")
    parser.add_argument("--address", type=four, default="10.0.2.15", help="the guest's, by DHCP")
    parser.add_argument("--gateway", type=four, default="10.0.2.2")
    parser.add_argument("--dns", type=four, default="10.0.2.3")
    parser.add_argument(
        "--ipv6", type=ipaddress.IPv6Network, metavar="PREFIX", help="offer IPv6 with this prefix, too"
    )
    parser.add_argument("--mtu", type=int, default=65520)
    parser.add_argument("--hostname", default="")
    parser.add_argument(
        "--no-host-loopback", action="store_true", help="the gateway does not lead to 127.0.0.1"
    )
    parser.add_argument(
        "--forward", type=_forward, action="append", default=[], metavar="PROTO:ADDR:PORT:GUESTPORT"
    )
    parser.add_argument(
        "--ready", type=int, metavar="FD", help="gets a line, and is closed, when everything is set up"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    with suppress(PermissionError):
        os.setsid()
    network = SlirpNetwork(
        network=options.network,
        gateway=options.gateway,
        address=options.address,
        dns=options.dns,
        prefix6=options.ipv6,
        mtu=options.mtu,
        hostname=options.hostname,
        host_loopback=not options.no_host_loopback,
    )
    try:
        end = socket.socket(fileno=options.fd)
    except OSError as error:
        return _failed(f"descriptor {options.fd} is no socket: {error.strerror}")
    try:
        with end:
            _serve(end, network, options)
    except (MissingLibraryError, ForwardError, FramingError) as error:
        return _failed(str(error))
    except OSError as error:
        return _failed(f"it cannot go on: {error.strerror}")
    return 0


def _failed(why: str) -> int:
    print(f"user-mode networking: {why}", file=sys.stderr)
    return 1


def _serve(end: socket.socket, network: SlirpNetwork, options: argparse.Namespace) -> None:
    pump = Pump(end, network)
    for forward in options.forward:
        pump.slirp.forward(*forward)
    if options.ready is not None:
        os.write(options.ready, b"ready\n")
        os.close(options.ready)
    pump.run()
    pump.slirp.close()


if __name__ == "__main__":
    sys.exit(main())
