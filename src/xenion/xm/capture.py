"""A capture of an interface, which comes through a FIFO of ours and goes to a file."""

import os
import select
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from xenion.api.client import Client
from xenion.api.errors import ApiError
from xenion.xm.calls import certain
from xenion.xm.errors import EXPECTED, XmError
from xenion.xm.output import complain
from xenion.xm.pcap import Packets

CHUNK = 1 << 16
GONE = ("no-such-domain", "no-such-device", "not-found", "wrong-state")


def capture(
    client: Client,
    domain: str,
    device: str,
    wishes: Mapping[str, Any],
    out: BinaryIO,
    most: int | None = None,
) -> int:
    """Until ctrl-C, until there are `most` packets, or until the interface is gone; the exit status. ApiError, XmError.

    ctrl-C (or SIGTERM) ends it in order: what was captured until then is written and told; another one, at once.
    """
    if client.url:
        raise XmError(
            "a capture needs a xend on this host: log in there, or have a file written there by `xm call`"
        )
    packets = Packets(most)
    with _fifo(client) as (path, fd), _stopped_by_signals() as stop:
        begun = client.call("capture", {**wishes, "path": str(path)}, domain=domain, device=device)

        def stop_it() -> Any:
            return client.call("stop_capture", domain=domain, device=device, capture=begun["capture"])

        try:
            gone = _copy(fd, stop, out, packets)
            dropped = 0 if gone else _stop(stop_it)
            gone = gone or dropped is None
            _copy(fd, None, out, packets)
        except BaseException:
            client.close()  # an answer may be half read
            with suppress(*EXPECTED):
                stop_it()
            raise
    complain(_told(packets.count, dropped or 0) + ("; the interface is gone" if gone else ""))
    return XmError.status if gone else 0


@contextmanager
def _fifo(client: Client) -> Iterator[tuple[Path, int]]:
    """Its path, in a folder that only this user can look into, and its end for reading. OSError."""
    run = client.where.run
    with tempfile.TemporaryDirectory(prefix="capture-", dir=run if run.is_dir() else None) as folder:
        path = Path(folder) / "pcap"
        os.mkfifo(path, 0o600)
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            yield path, fd
        finally:
            os.close(fd)


@contextmanager
def _stopped_by_signals() -> Iterator[int]:
    """A descriptor that becomes readable at the first; the second interrupts. Who wants them ignored is obeyed."""
    fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def stop(number: int, frame: object) -> None:
        signal.signal(number, signal.default_int_handler)
        os.eventfd_write(fd, 1)

    wanted = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in wanted}
    try:
        yield fd
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(fd)


def _copy(fd: int, stop: int | None, out: BinaryIO, packets: Packets) -> bool:
    """Until nobody writes any more (true), or there are enough or `stop` is readable (false).

    XmError, OSError; BrokenPipeError as soon as nobody reads `out`, even if nothing is to be written.
    """
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.register(out.fileno(), 0)
    if stop is not None:
        poll.register(stop, select.POLLIN)
    while not packets.full:
        ready = dict(poll.poll())
        if ready.get(out.fileno(), 0) & select.POLLERR:
            raise BrokenPipeError
        if stop in ready:
            return False
        if fd not in ready:
            continue
        data = os.read(fd, CHUNK)
        if not data:
            return True
        out.write(packets.take(data))
        out.flush()
    return False


def _stop(stop_it: Callable[[], Any]) -> int | None:
    """How many packets were lost, or None: the interface is gone. ApiError."""
    try:
        ended = certain(stop_it, lambda: False)
    except ApiError as error:
        if error.code not in GONE:
            raise
        return None
    return int(ended["dropped"])


def _told(count: int, dropped: int) -> str:
    lost = f", {dropped} lost" if dropped else ""
    return f"{count} packet{'' if count == 1 else 's'} captured{lost}"
