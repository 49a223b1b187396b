"""Core dumps of a domain that xend has asked for. The guest may run, be preserved, or end meanwhile."""

import os
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from xenion.dom0.loop import Loop
from xenion.domain.control import Refusal, Request
from xenion.domain.dumpcore import DumpError, dump_core
from xenion.domain.machine import Machine

PARKING_SECONDS = 10.0
HOLDER = "dump"


@dataclass(slots=True)
class _Dump:
    """`thread` writes it once the guest holds still, if it has to; `fd` is the thread's."""

    request: Request
    machine: Machine
    fd: int
    live: bool
    thread: threading.Thread | None = None


class Dumps:
    """One at a time. All but `settle` is for Dom0's thread."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._dump: _Dump | None = None
        self._cancelled = False

    def begin(self, request: Request, machine: Machine) -> None:
        """Answers the request when the dump is whole; the guest is held meanwhile unless the dump is to be live."""
        if self._dump is not None:
            raise Refusal("a dump of this domain is under way already: wait for it or cancel it")
        (fd,) = request.take_fds()
        dump = self._dump = _Dump(request, machine, fd, live=request.fields.get("live") is True)
        self._cancelled = False
        if not dump.live:
            machine.hold(HOLDER)
            self._loop.later(PARKING_SECONDS, lambda: self._give_up(dump))
        self.look()

    def cancel(self) -> None:
        """The one under way, if any, is refused soon."""
        self._cancelled = True

    def look(self) -> None:
        """The guest may have come to hold still."""
        dump = self._dump
        if dump is None or dump.thread is not None or not (dump.live or dump.machine.domain.parked):
            return
        dump.thread = threading.Thread(target=self._write, args=(dump,), name="dump", daemon=True)
        try:
            dump.thread.start()
        except RuntimeError:
            os.close(dump.fd)
            self._finish(dump, lambda: dump.request.refuse("the host has no room for another thread"))

    def _give_up(self, dump: _Dump) -> None:
        if self._dump is dump and dump.thread is None:
            os.close(dump.fd)
            self._finish(dump, lambda: dump.request.refuse("the guest could not be stopped for the dump"))

    def _finish(self, dump: _Dump, answer: Callable[[], None]) -> None:
        self._dump = None
        dump.machine.let_go(HOLDER)
        answer()

    def settle(self) -> None:
        """The main thread, when none can begin any more: returns when none touches a machine any more."""
        if not self._loop.running:
            self._cancelled = True  # nobody can be told that it is whole
        dump = self._dump
        if dump is not None and dump.thread is not None:
            dump.thread.join()
            self._loop.call_and_wait(lambda: None)  # it has been answered

    # --- a thread of its own

    def _write(self, dump: _Dump) -> None:
        try:
            answer = self._answer(dump)
        finally:
            os.close(dump.fd)
        self._loop.call(lambda: self._finish(dump, answer))

    def _answer(self, dump: _Dump) -> Callable[[], None]:
        """What tells how it went, on Dom0's thread."""
        request = dump.request
        try:
            written = dump_core(
                dump.machine.domain, dump.fd, request.teller(self._loop, lambda: self._cancelled)
            )
        except DumpError as error:
            said = str(error)
        except Exception:  # noqa: BLE001  a bug of ours: the guest goes on all the same
            traceback.print_exc()
            said = "the dump failed for a reason that only process.log in the domain's folder of logs tells"
        else:
            remarks = list(written.remarks)
            return lambda: request.done(remarks=remarks)
        return lambda: request.refuse(said)
