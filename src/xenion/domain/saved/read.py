"""A saved domain on its way out of its file, or from another host: what it is first, its memory when a new domain is
there to take it."""

import time
from collections.abc import Callable

from xenion.domain.saved.format import DONE, HEAD, NUMBER, PAGES, STATE, SYNC, Reader, SavedFileError
from xenion.domain.saved.pages import resident, unpack
from xenion.domain.saved.state import Head, MachineState, decode
from xenion.vmm.clock import scaling
from xenion.vmm.domain import Domain
from xenion.vmm.runs import joined, without
from xenion.vmm.saved import SavedStateError, check_processor, memory_runs, prepare, resume

MOST_SYNCS = 1000
"""Rounds are echoed by entries of the journal, and no other host is to fill that."""


class SavedDomain:
    """Read from the start of `fd`, in one pass: `head` at once, the rest by `fill`. SavedFileError."""

    def __init__(self, fd: int) -> None:
        self._reader = Reader(fd)
        self._reader.begin()
        self.head = decode(self._reader.section(HEAD), Head)
        self.state: MachineState

    def fill(self, domain: Domain, echo: Callable[[int], None] | None = None) -> None:
        """Makes a new domain of no pages what the saved one was, so that it goes on; `state` is there then. `echo`
        tells the other host which round has come; None: it is a file. SavedFileError."""
        scaling(domain.processor.tsc)  # takes its time, and a guest may be waiting later
        try:
            # before all of its memory comes
            check_processor(domain.processor.features, self.head.processor, self.head.cpuid)
            count = self._load_earlier(domain, echo)
            came = time.monotonic_ns()
            state = self.state.domain
            prepare(domain, state)
            self._load_pages(domain, count)
            late = time.monotonic_ns() - came if count else 0
            resume(domain, state, late)
        except SavedStateError as error:
            raise SavedFileError(str(error)) from error

    def _load_earlier(self, domain: Domain, echo: Callable[[int], None] | None) -> int:
        """Pages as they were while it ran elsewhere, how many; then its state has come."""
        memory, count, rounds = domain.memory, 0, 0
        anywhere = [(memory.m2p_mfn, memory.m2p_pages), (memory.first_mfn, memory.nr_pages)]
        kinds = (PAGES, STATE) if echo is None else (PAGES, SYNC, STATE)
        while (section := self._reader.next(*kinds)).kind != STATE:
            if section.kind == PAGES:
                count += unpack(section.data, memory, anywhere)
            elif echo is not None:
                rounds += 1
                if rounds > MOST_SYNCS or section.data != NUMBER.pack(rounds):
                    raise SavedFileError("it is damaged")
                echo(rounds)
        self.state = decode(section.data, MachineState)
        return count

    def _load_pages(self, domain: Domain, count: int) -> None:
        """All that is still to come; `count` have come. What is none of the domain's in the end is given back."""
        allowed, memory, earlier = joined(memory_runs(domain, self.state.domain)), domain.memory, count
        while (section := self._reader.next(PAGES, DONE)).kind == PAGES:
            count += unpack(section.data, memory, allowed)
        if section.data != NUMBER.pack(count):
            raise SavedFileError("it is damaged: pages are missing")
        if earlier:
            memory.forget(without(resident(memory, [(memory.first_mfn, memory.nr_pages)]), allowed))
