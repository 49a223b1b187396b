"""A domain on its way into a file or to another host. What is written last, while it is held and none of its back ends
has anything of its memory, makes it whole; most of the memory may have been written before that."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

from xenion.domain.saved.format import DONE, HEAD, NUMBER, PAGES, STATE, SYNC, Progress, SaveError, Writer
from xenion.domain.saved.pages import ZERO, filled, pieces, present, resident, whole
from xenion.domain.saved.rounds import Round, Rounds
from xenion.domain.saved.state import Head, MachineState, encode
from xenion.vmm.domain import Domain
from xenion.vmm.runs import Run, common, frames_of, joined, without
from xenion.vmm.saved import memory_runs, shared_runs, shown_pages
from xenion.vmm.written import WriteWatch, Written

Runs = Sequence[Run]

MOST_HEAT = 255
LOOK_S, ECHO_S = 0.2, 120.0


class Echo:
    """What the other end has got, by numbers that grow: any thread says, another one waits."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._number = 0

    def say(self, number: int) -> None:
        with self._changed:
            self._number = max(self._number, number)
            self._changed.notify_all()

    def heard(self, number: int, seconds: float) -> bool:
        """Whether that number has been said, after so long at most."""
        with self._changed:
            return self._changed.wait_for(lambda: self._number >= number, seconds)


class SaveCancelledError(SaveError):
    """`progress` asked to stop."""

    def __init__(self) -> None:
        super().__init__("the save was cancelled")


def _taken(written: Written, pages: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    for mfn, page in pages:
        written.took(mfn, page)
        yield mfn, page


class Outgoing:
    """All but the HOST section: `copy` first if the guest is to be held for a moment only, `finish` when it is held,
    `sync`; `end` in any case. SaveError."""

    def __init__(self, domain: Domain, head: Head, fd: int, progress: Progress) -> None:
        self._domain, self._progress = domain, progress
        self._writer = Writer(fd)
        self._writer.begin()
        self._writer.section(HEAD, encode(head))
        self._sent = bytearray()
        """Of each frame, whether it has been copied."""
        self._heat = bytearray()
        """Of each frame, how many rounds have found it written."""
        self._written: Written | None = None
        self._done = self._most = 0

    # --- while the guest runs

    def copy(self, watch: WriteWatch, rounds: Rounds, echo: Echo | None, tell: Callable[[], None]) -> None:
        """Its memory, and again what it has written meanwhile, until the rest is small or becomes no smaller. With an
        `echo` each round is awaited at the other end."""
        memory = self._domain.memory
        self._sent, self._heat = bytearray(memory.nr_frames), bytearray(memory.nr_frames)
        try:
            self._written = watch.watch(memory)
            self._written.start()
            while_it_runs = [(memory.m2p_mfn, memory.m2p_pages), (memory.first_mfn, memory.nr_pages)]
            self._most = sum(count for _, count in resident(memory, while_it_runs))
            pages = filled(memory, _taken(self._written, present(memory, while_it_runs)))
            while not rounds.enough:
                began, done, sent = time.monotonic(), self._done, self._writer.bytes
                self._send(pages)
                self._wait_for(echo, rounds.last.number + 1 if rounds.last else 1)
                todo = common(self._written.collect(), while_it_runs)
                rounds.add(self._round(rounds, todo, began, done, sent))
                tell()
                pages = _taken(self._written, whole(memory, todo))
            if rounds.why_not:
                raise SaveError(f"the domain stays here: {rounds.why_not}")
            self._send(pages)
            self._wait_for(echo, rounds.last.number + 1 if rounds.last else 1)
        except OSError as error:
            raise SaveError(f"the domain's memory cannot be watched ({error.strerror})") from error

    def _wait_for(self, echo: Echo | None, number: int) -> None:
        if echo is None:
            return
        self._writer.section(SYNC, NUMBER.pack(number))
        deadline = time.monotonic() + ECHO_S
        while not echo.heard(number, LOOK_S):
            self._go_on()
            if time.monotonic() > deadline:
                raise SaveError("the other host does not read what it is sent")

    def _round(self, rounds: Rounds, todo: Runs, began: float, done: int, sent: int) -> Round:
        number = rounds.last.number + 1 if rounds.last else 1
        return Round(
            number=number,
            pages=self._done - done,
            sent=self._writer.bytes - sent,
            seconds=time.monotonic() - began,
            written=sum(count for _, count in todo),
            hot=self._heat_up(todo, number),
        )

    def _heat_up(self, runs: Runs, number: int) -> int:
        """How many of them have been written in each round."""
        heat, hot = self._heat, 0
        for mfn in frames_of(runs):
            heat[mfn] = min(heat[mfn] + 1, MOST_HEAT)
            hot += heat[mfn] >= number
        return hot

    # --- while it is held

    def finish(self, state: MachineState) -> None:
        self._writer.section(STATE, encode(state))
        runs, shown = memory_runs(self._domain, state.domain), shown_pages(self._domain)
        if self._written is None:
            self._most = sum(count for _, count in runs)
            memory = self._domain.memory
            rest = filled(memory, present(memory, runs))
        else:
            rest = self._rest(self._written, runs, shown)
        self._send((mfn, shown.get(mfn, page)) for mfn, page in rest)
        self._writer.section(DONE, NUMBER.pack(self._done))

    def sync(self) -> None:
        """What has been written is on the disk, if it is a file."""
        self._writer.finish()

    def _rest(self, written: Written, runs: Runs, shown: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        """What is not as it was copied."""
        memory = self._domain.memory
        try:
            todo = common(written.collect(), runs)
        except OSError as error:
            raise SaveError(f"the domain's memory cannot be watched ({error.strerror})") from error
        always = [*shared_runs(memory), *((mfn, 1) for mfn in shown)]
        yield from present(memory, joined([*todo, *always]))
        for low, count in without(runs, resident(memory, runs)):
            for mfn in range(low, low + count):
                if self._sent[mfn]:
                    yield mfn, ZERO  # it was given back to the host, and is the guest's again

    def _send(self, pages: Iterable[tuple[int, bytes]]) -> None:
        for data, frames in pieces(pages):
            self._writer.section(PAGES, data)
            self._done += len(frames)
            if self._written is not None:
                for mfn in frames:
                    self._sent[mfn] = 1
            self._go_on()

    def _go_on(self) -> None:
        """SaveCancelledError."""
        if not self._progress(self._done, max(self._most, self._done)):
            raise SaveCancelledError

    def end(self) -> None:
        """Again is fine. The memory is as any other then."""
        if self._written is not None:
            with suppress(OSError):  # the guest is a little slower then, and goes on all the same
                self._written.stop()
