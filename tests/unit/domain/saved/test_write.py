"""A domain on its way into a file, a pipe or a full disk."""

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.unit.domain.saved.test_format import holding, through_a_pipe
from tests.unit.domain.saved.test_pages import frames_in
from tests.unit.domain.saved.test_state import HEAD as WHO
from tests.unit.domain.saved.test_state import NODES, TALK
from tests.unit.vmm.kernel import PAGES as NR_PAGES
from tests.unit.vmm.kernel import Kernel
from tests.unit.vmm.saved_kit import DATA_PFN, TEXT_PFN, all_of_it, begun, fill_memory
from xenion.domain.saved import write
from xenion.domain.saved.format import DONE, HEAD, PAGES, STATE, Reader, SavedFileError, SaveError, Section
from xenion.domain.saved.state import Head, MachineState, decode
from xenion.domain.saved.write import Outgoing, SaveCancelledError
from xenion.vmm.memory import GRANT_FRAMES, GRANT_STATUS_FRAMES
from xenion.vmm.saved import capture

SHOWN = GRANT_FRAMES + GRANT_STATUS_FRAMES + 2
"""Pages of the hypervisor's, beside the machine-to-physical table."""


def machine(kernel: Kernel) -> MachineState:
    return MachineState(
        domain=capture(kernel.domain), nodes=NODES, talk=TALK, console_pfn=5, console_port=1, store_pfn=6, store_port=2,
        target_mib=64, maxmem_mib=128, vcpus=1,
    )  # fmt: skip


def on(done: int, most: int) -> bool:
    return True


def save(kernel: Kernel, fd: int, progress: Callable[[int, int], bool] = on) -> None:
    Outgoing(kernel.domain, WHO, fd, progress).finish(machine(kernel))


def sections(fd: int) -> list[Section]:
    """All that there is, of the kinds that are expected."""
    reader = Reader(fd)
    reader.begin()
    found = [reader.next(HEAD), reader.next(STATE)]
    while found[-1].kind != DONE:
        found.append(reader.next(PAGES, DONE))
    return found


@contextmanager
def saved(kernel: Kernel) -> Iterator[int]:
    """The file, at its start."""
    with holding(b"") as fd:
        save(kernel, fd)
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd


def test_what_is_in_the_file() -> None:
    with begun(3) as kernel:
        all_of_it(kernel)
        with saved(kernel) as fd:
            found = sections(fd)
            assert os.read(fd, 1) == b"", "what comes next is xend's"
        assert decode(found[0].data, Head) == WHO
        state = decode(found[1].data, MachineState)
        frames = [mfn for section in found[2:-1] for mfn in frames_in(section.data)]
        assert found[-1].data == struct.pack("<Q", len(frames))
        assert len(set(frames)) == len(frames)
        assert state.domain.special == capture(kernel.domain).special


def test_which_pages_are_in_the_file() -> None:
    """All of the hypervisor's that a guest has a part in, and of the guest's own those with something in them."""
    with begun() as kernel:
        fill_memory(kernel)
        memory = kernel.domain.memory
        with saved(kernel) as fd:
            frames = [mfn for section in sections(fd)[2:-1] for mfn in frames_in(section.data)]
        tables = [kernel.mfn(pfn) for pfn in range(4)]
        assert [mfn for mfn in frames if mfn >= memory.first_mfn] == [
            *tables, kernel.mfn(DATA_PFN), kernel.mfn(TEXT_PFN),
        ]  # fmt: skip
        assert len([mfn for mfn in frames if mfn < memory.first_mfn]) == memory.m2p_pages + SHOWN


def test_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ever more, of what there may be at most."""
    seen: list[tuple[int, int]] = []

    def note(done: int, most: int) -> bool:
        seen.append((done, most))
        return True

    monkeypatch.setattr("xenion.domain.saved.pages.PIECE_PAGES", 10)
    with begun() as kernel, holding(b"") as fd:
        save(kernel, fd, note)
        most = kernel.domain.memory.m2p_pages + SHOWN + NR_PAGES
    assert [most for _, most in seen] == [most] * len(seen)
    steps = [done for done, _ in seen]
    assert steps == [*range(10, steps[-1], 10), steps[-1]]
    assert steps[-1] <= most


@pytest.mark.parametrize("last", [1, 2, 5])
def test_it_is_cancelled(last: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def enough(done: int, most: int) -> bool:
        asked.append(done)
        return len(asked) < last

    monkeypatch.setattr("xenion.domain.saved.pages.PIECE_PAGES", 10)
    with begun() as kernel, holding(b"") as fd:
        with pytest.raises(SaveCancelledError, match=r"^the save was cancelled$"):
            save(kernel, fd, enough)
        assert len(asked) == last
        os.lseek(fd, 0, os.SEEK_SET)
        with pytest.raises(SavedFileError, match=r"^it is cut off$"):
            sections(fd)


def test_the_domain_is_as_it_was_and_can_be_saved_again() -> None:
    with begun() as kernel, holding(b"") as fd:
        fill_memory(kernel)
        before = bytes(kernel.domain.memory.bytes)
        with pytest.raises(SaveCancelledError):
            save(kernel, fd, lambda done, most: False)
        assert bytes(kernel.domain.memory.bytes) == before
        with saved(kernel) as again:
            assert len(sections(again)) == 4


def test_a_full_disk() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    with (
        begun() as kernel,
        pytest.raises(SaveError, match=r"^the domain cannot be saved \(No space left on device\)"),
    ):
        save(kernel, fd)
    os.close(fd)


@pytest.mark.parametrize("room", [0, 11, 12, 200, 4000, 8000])
def test_a_disk_that_becomes_full(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write_really, left = os.write, [room]

    def write_some(fd: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(28, "No space left on device")
        done = write_really(fd, data[: left[0]])
        left[0] -= done
        return done

    with begun() as kernel, holding(b"") as fd:
        monkeypatch.setattr("xenion.domain.saved.format.os.write", write_some)
        with pytest.raises(SaveError, match="No space left"):
            save(kernel, fd)


def test_into_a_pipe() -> None:
    """Whoever reads is slower."""
    found: list[Section] = []
    with begun() as kernel:
        for pfn in range(DATA_PFN, NR_PAGES):
            kernel.put(os.urandom(4096), pfn)
        through_a_pipe(lambda far: save(kernel, far), lambda near: found.extend(sections(near)))
    assert [section.kind for section in found] == [HEAD, STATE, PAGES, DONE]


def test_a_state_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "encode", lambda value: bytes(1 << 20 | 1))
    with begun() as kernel, holding(b"") as fd:
        with pytest.raises(SaveError, match="too large"):
            save(kernel, fd)
        assert os.fstat(fd).st_size == 12, "the start alone"
