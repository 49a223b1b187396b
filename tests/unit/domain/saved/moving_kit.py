"""A domain whose memory is copied while its guest runs: who watches it, what the guest does meanwhile, what arrives."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

from tests.unit.domain.saved.test_format import holding
from tests.unit.domain.saved.test_state import HEAD as WHO
from tests.unit.domain.saved.test_state import NODES, TALK
from tests.unit.vmm.kernel import PAGES as NR_PAGES
from tests.unit.vmm.kernel import Kernel
from tests.unit.vmm.saved_kit import TEXT_PFN as LAST_PFN_IN_USE
from tests.unit.vmm.saved_kit import (
    but_the_time,
    check,
    empty_domain,
    frames_of,
    own_pages,
    set_l1,
    through_a_file,
    unmap,
)
from xenion.core import lib
from xenion.domain.saved.format import DONE, HEAD, PAGES, STATE, SYNC, Reader, Section
from xenion.domain.saved.pages import resident
from xenion.domain.saved.read import SavedDomain
from xenion.domain.saved.rounds import Rounds
from xenion.domain.saved.state import MachineState
from xenion.domain.saved.write import Echo, Outgoing
from xenion.vmm.domain import Domain
from xenion.vmm.memory import PAGE_SIZE, MachineMemory
from xenion.vmm.runs import Run
from xenion.vmm.saved import capture
from xenion.vmm.written import Pages, WriteWatch, Written

FREE_PFN = LAST_PFN_IN_USE + 1
"""From here on pages are the tests' own."""
Act = Callable[[], None]


def nothing() -> None:
    """Done meanwhile."""


def on(done: int, most: int) -> bool:
    assert done <= most
    return True


def machine(kernel: Kernel) -> MachineState:
    return MachineState(
        domain=capture(kernel.domain), nodes=NODES, talk=TALK, console_pfn=5, console_port=1, store_pfn=6, store_port=2,
        target_mib=64, maxmem_mib=128, vcpus=len(kernel.domain.vcpus),
    )  # fmt: skip


# --- who watches


class Disturbed:
    """A watch of one memory, and what happens before and after each look, and after each copy of a page, until the
    guest is held (`calm`)."""

    def __init__(self, look: Written, before: Act, after: Act, copied: Callable[[int], None]) -> None:
        self._look, self._before, self._after, self._copied = look, before, after, copied
        self.looks = 0
        self.started = self.calm = False

    def start(self) -> None:
        self._look.start()
        self.started = True

    def collect(self) -> list[Run]:
        if not self.calm:
            self._before()
        found = self._look.collect()
        self.looks += 1
        if not self.calm:
            self._after()
        return found

    def took(self, first: int, pages: Pages) -> None:
        self._look.took(first, pages)
        self._copied(first)

    def stop(self) -> None:
        self._look.stop()
        self.started = False


class Watching:
    """As WriteWatch."""

    def __init__(
        self,
        watch: WriteWatch,
        *,
        before: Act = nothing,
        after: Act = nothing,
        copied: Callable[[int], None] = lambda mfn: None,
    ) -> None:
        self._watch, self._before, self._after, self._copied = watch, before, after, copied
        self.look: Disturbed

    def watch(self, memory: MachineMemory) -> Disturbed:
        self.look = Disturbed(self._watch.watch(memory), self._before, self._after, self._copied)
        return self.look


class Heard(Echo):
    """Another host that has everything at once."""

    def heard(self, number: int, seconds: float) -> bool:
        return True


class Exactly(Rounds):
    """So many, whatever is left."""

    def __init__(self, count: int, worst_s: float | None = None) -> None:
        super().__init__(worst_s)
        self._count = count

    @property
    def enough(self) -> bool:
        return self.last is not None and self.last.number >= self._count


# --- the guest


class Running:
    """What it does to its frames from FREE_PFN on, which nothing maps, and to what the hypervisor keeps for it."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel, self._domain, self._memory = kernel, kernel.domain, kernel.domain.memory
        for pfn in range(FREE_PFN, NR_PAGES):
            unmap(kernel, pfn)
        self.frames = [kernel.mfn(pfn) for pfn in range(FREE_PFN, NR_PAGES)]
        """Its own, in the order in which they came."""
        self._mapped = 0

    def write(self, n: int, value: int = 1) -> None:
        if self.frames:
            self._memory.page(self.frames[n % len(self.frames)])[n * 64 % PAGE_SIZE] = value % 256

    def zero(self, n: int) -> None:
        if self.frames:
            self._memory.page(self.frames[n % len(self.frames)])[:] = bytes(PAGE_SIZE)

    def read(self, n: int) -> bytes:
        """The host has memory for it then."""
        return bytes(self._memory.page(self.frames[n % len(self.frames)])) if self.frames else b""

    def give_back(self, n: int) -> None:
        if self.frames:
            assert lib.core_release_frame(self._domain.state, self.frames.pop(n % len(self.frames))) == 0

    def take(self, n: int = 0) -> None:
        if self._domain.pages < self._domain.max_pages:
            mfn = int(lib.core_allocate_frame(self._domain.state))
            assert mfn > 0
            self.frames.append(mfn)

    def name(self, n: int) -> None:
        """In the machine-to-physical table."""
        if self.frames:
            self._domain.set_pfn(self.frames[n % len(self.frames)], 1000 + n)

    def map(self, n: int) -> None:
        """In a page table of the kernel's, which the hypervisor writes; instead of what it has mapped before."""
        if self.frames:
            entry = self.frames[0] << 12 | 0x61
            self.unmap()
            assert set_l1(self._kernel, 3, FREE_PFN, 0, entry) == 1
            self._mapped = entry

    def unmap(self, n: int = 0) -> None:
        if self._mapped:
            assert set_l1(self._kernel, 3, FREE_PFN, self._mapped, 0) == 1
            self._mapped = 0

    def grant(self, n: int) -> None:
        self._domain.grants.entry_bytes(100 + n)[:] = bytes([n % 256]) * 8

    def share(self, n: int) -> None:
        """Event bits, in the shared page."""
        self._memory.words[self._memory.shared_info_mfn * 512 + 260] = n


# --- what arrives


def stream_of(
    kernel: Kernel, watch: WriteWatch | Watching, rounds: Rounds, fd: int, held: Act = nothing
) -> Outgoing:
    """All of it; `held` is the last that the guest does."""
    outgoing = Outgoing(kernel.domain, WHO, fd, on)
    try:
        outgoing.copy(cast("WriteWatch", watch), rounds, Heard(), nothing)
        held()
        if isinstance(watch, Watching):
            watch.look.calm = True
        outgoing.finish(machine(kernel))
    finally:
        outgoing.end()
    return outgoing


def parts_of(fd: int) -> list[Section]:
    """All sections of a stream."""
    reader = Reader(fd)
    reader.begin()
    found = [reader.next(HEAD)]
    while found[-1].kind != DONE:
        found.append(reader.next(PAGES, SYNC, STATE, DONE))
    return found


def is_the_same(domain: Domain, kernel: Kernel) -> None:
    """What has arrived is what is there, and the host has memory for nothing else."""
    was, now, memory = capture(kernel.domain), capture(domain), domain.memory
    owned = {mfn for first, count in now.owned for mfn in range(first, first + count)}
    own = resident(memory, [(memory.first_mfn, memory.nr_pages)])
    assert {mfn for first, count in own for mfn in range(first, first + count)} <= owned
    assert but_the_time(now) == but_the_time(through_a_file(was))
    assert frames_of(domain) == frames_of(kernel.domain)
    assert own_pages(domain) == own_pages(kernel.domain)
    check(domain)


@contextmanager
def arrived(
    kernel: Kernel, watch: WriteWatch | Watching, rounds: Rounds, held: Act = nothing
) -> Iterator[Domain]:
    """Elsewhere, the same."""
    with holding(b"") as fd, empty_domain(len(kernel.domain.vcpus)) as domain:
        stream_of(kernel, watch, rounds, fd, held)
        os.lseek(fd, 0, os.SEEK_SET)
        echoes: list[int] = []
        SavedDomain(fd).fill(domain, echoes.append)
        assert rounds.last is not None
        assert echoes == list(range(1, rounds.last.number + 2)), "what was sent last is awaited, too"
        is_the_same(domain, kernel)
        yield domain
