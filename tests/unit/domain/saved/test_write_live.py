"""A domain that is copied while its guest runs: what it becomes elsewhere, and what ends it halfway."""

import os
import random
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.domain.saved.moving_kit import (
    FREE_PFN,
    Disturbed,
    Exactly,
    Heard,
    Running,
    Watching,
    arrived,
    machine,
    nothing,
    on,
    parts_of,
    stream_of,
)
from tests.unit.domain.saved.test_format import holding, through_a_pipe
from tests.unit.domain.saved.test_pages import frames_in
from tests.unit.domain.saved.test_state import HEAD as WHO
from tests.unit.vmm.kernel import L4, Kernel
from tests.unit.vmm.kernel import PAGES as NR_PAGES
from tests.unit.vmm.saved_kit import (
    DATA_PFN,
    TABLE_PFN,
    all_of_it,
    begun,
    empty_domain,
    fill_memory,
    pinned_table,
)
from tests.write_watches import is_protected
from xenion.core import lib
from xenion.domain.saved import rounds as rounds_module
from xenion.domain.saved import write
from xenion.domain.saved.format import (
    DONE,
    HEAD,
    NUMBER,
    PAGES,
    STATE,
    SYNC,
    Reader,
    SavedFileError,
    SaveError,
)
from xenion.domain.saved.pages import ZERO, resident
from xenion.domain.saved.read import SavedDomain
from xenion.domain.saved.rounds import Rounds
from xenion.domain.saved.write import Echo, Outgoing, SaveCancelledError
from xenion.vmm.domain import Domain
from xenion.vmm.memory import PAGE_SIZE
from xenion.vmm.saved import shown_pages
from xenion.vmm.written import WriteWatch


def live(
    kernel: Kernel, watch: WriteWatch | Watching, fd: int, progress: Callable[..., bool] = on
) -> Outgoing:
    """Copied in one round, and not finished."""
    outgoing = Outgoing(kernel.domain, WHO, fd, progress)
    try:
        outgoing.copy(cast("WriteWatch", watch), Exactly(1), Heard(), nothing)
    except BaseException:
        outgoing.end()
        raise
    return outgoing


def page_of(domain: Domain, mfn: int) -> bytes:
    return bytes(domain.memory.page(mfn))


# --- what there is of it


def test_a_guest_that_does_nothing(watch: WriteWatch) -> None:
    with begun() as kernel:
        fill_memory(kernel)
        with arrived(kernel, watch, Rounds()):
            pass


@pytest.mark.parametrize("rounds", [1, 3])
def test_all_of_it(watch: WriteWatch, rounds: int) -> None:
    with begun(3) as kernel:
        all_of_it(kernel)
        with arrived(kernel, watch, Exactly(rounds)):
            pass


def test_all_of_it_is_done_while_it_is_copied(watch: WriteWatch) -> None:
    """Tables, ports, grants, other vCPUs: what the hypervisor writes for the guest."""
    with begun(3) as kernel, arrived(kernel, watch, Exactly(2), held=lambda: all_of_it(kernel)):
        pass


def test_twice_in_a_row(watch: WriteWatch) -> None:
    """One watch, several migrations: the first came to nothing."""
    with begun() as kernel:
        guest = Running(kernel)
        guest.write(1)
        for value in range(3):
            with arrived(kernel, watch, Exactly(2), held=lambda value=value: guest.write(1, value)):  # type: ignore[misc]
                pass


def test_sections_of_it(watch: WriteWatch) -> None:
    with begun() as kernel, holding(b"") as fd:
        guest = Running(kernel)
        guest.write(3)
        stream_of(kernel, watch, Exactly(2), fd, lambda: guest.write(5))
        os.lseek(fd, 0, os.SEEK_SET)
        parts = parts_of(fd)
        kinds = [part.kind for part in parts]
        state = kinds.index(STATE)
        assert (kinds[0], kinds[-1], set(kinds[1:-1])) == (HEAD, DONE, {PAGES, SYNC, STATE})
        early = [mfn for part in parts[1:state] if part.kind == PAGES for mfn in frames_in(part.data)]
        late = [mfn for part in parts[state + 1 : -1] for mfn in frames_in(part.data)]
        memory = kernel.domain.memory
        assert guest.frames[3] in early
        assert guest.frames[5] not in early
        own = {mfn for mfn in late if mfn >= memory.first_mfn}
        assert own == {guest.frames[5], kernel.mfn(L4)}, "what was written, and what is shown otherwise"
        table = range(memory.m2p_mfn, memory.m2p_mfn + memory.m2p_pages)
        assert all(mfn in table or mfn >= memory.first_mfn for mfn in early)


def test_what_is_not_there_stays_so(watch: WriteWatch) -> None:
    found: list[tuple[int, int]] = []
    with begun() as kernel:
        memory = kernel.domain.memory
        own = [(memory.first_mfn, memory.nr_pages)]
        before = resident(memory, own)
        with arrived(kernel, watch, Exactly(3), held=lambda: found.extend(resident(memory, own))):
            assert found == before


def test_top_tables_as_the_guest_wrote_them(watch: WriteWatch) -> None:
    """Though nobody has written them since they were copied as they are."""
    with begun() as kernel, holding(b"") as fd:
        (top,) = shown_pages(kernel.domain)
        stream_of(kernel, watch, Exactly(3), fd)
        os.lseek(fd, 0, os.SEEK_SET)
        parts = parts_of(fd)
        state = [part.kind for part in parts].index(STATE)
        assert top in [
            mfn for part in parts[state:-1] for mfn in (frames_in(part.data) if part.kind == PAGES else [])
        ]


def test_a_table_that_is_one_only_in_the_end(watch: WriteWatch) -> None:
    with begun() as kernel, arrived(kernel, watch, Exactly(2), held=lambda: pinned_table(kernel)) as domain:
        assert page_of(domain, kernel.mfn(TABLE_PFN)) == page_of(kernel.domain, kernel.mfn(TABLE_PFN))


# --- what is given back


def test_given_back_after_it_was_copied(watch: WriteWatch) -> None:
    with begun() as kernel:
        guest = Running(kernel)
        guest.write(4)
        gone = guest.frames[4]
        with arrived(kernel, watch, Exactly(2), held=lambda: guest.give_back(4)) as domain:
            assert not lib.core_owns_frame(domain.state, gone)


def give_and_take(guest: Running, then: Callable[[int], Any] = lambda n: None) -> None:
    """The same frame again, as it is new."""
    gone = guest.frames[4]
    guest.give_back(4)
    while gone not in guest.frames:
        guest.take()
    then(guest.frames.index(gone))


@pytest.mark.parametrize("then", ["nothing", "read", "write"])
def test_given_back_and_the_guests_again(watch: WriteWatch, then: str) -> None:
    with begun() as kernel:
        guest = Running(kernel)
        guest.write(4, 0x77)
        frame = guest.frames[4]
        does = {"nothing": lambda n: None, "read": guest.read, "write": lambda n: guest.write(n, 3)}[then]
        with arrived(kernel, watch, Exactly(2), held=lambda: give_and_take(guest, does)) as domain:
            assert 0x77 not in page_of(domain, frame)
            assert (page_of(domain, frame) == ZERO) == (then != "write")


@pytest.mark.parametrize("zeroed", [False, True])
@pytest.mark.parametrize("again", ["before the next look", "in the end"])
def test_given_back_between_the_look_and_the_copy(watch: WriteWatch, zeroed: bool, again: str) -> None:
    """A balloon empties a page, then gives it back: who has found that it was written finds a hole."""
    with begun() as kernel:
        guest = Running(kernel)
        guest.write(4, 0x77)
        frame = guest.frames[4]

        def before() -> None:
            if watching.look.looks == 0:
                guest.zero(4) if zeroed else guest.write(4, 0x78)
            elif again == "before the next look" and frame not in guest.frames:
                take()

        def after() -> None:
            if watching.look.looks == 1:
                guest.give_back(4)

        def take() -> None:
            while frame not in guest.frames:
                guest.take()
            assert guest.read(guest.frames.index(frame)) == ZERO

        watching = Watching(watch, before=before, after=after)
        with arrived(kernel, watching, Exactly(3), held=take) as domain:
            assert page_of(domain, frame) == ZERO


def test_all_that_the_guest_has_is_given_back(watch: WriteWatch) -> None:
    with begun() as kernel:
        guest = Running(kernel)
        for n in range(len(guest.frames)):
            guest.write(n)

        def give() -> None:
            while guest.frames:
                guest.give_back(0)

        with arrived(kernel, watch, Exactly(2), held=give) as domain:
            assert domain.pages == FREE_PFN


def test_a_guest_that_becomes_larger(watch: WriteWatch) -> None:
    with begun() as kernel:
        guest = Running(kernel)

        def grow() -> None:
            for _ in range(8):
                guest.take()
                guest.write(len(guest.frames) - 1, 9)

        with arrived(kernel, watch, Exactly(2), held=grow) as domain:
            assert domain.pages == NR_PAGES + 8


# --- a guest that never rests


def test_threads_that_write_all_the_time(watch: WriteWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream goes through a pipe, and whoever reads it is slower."""
    monkeypatch.setattr("xenion.domain.saved.pages.PIECE_PAGES", 7)
    with begun() as kernel, empty_domain() as domain:
        guest = Running(kernel)
        ended = threading.Event()

        def write(seed: int) -> None:
            dice = random.Random(seed)
            while not ended.is_set():
                guest.write(dice.randrange(40), dice.randrange(256))

        writers = [threading.Thread(target=write, args=(seed,)) for seed in (1, 2)]
        for writer in writers:
            writer.start()

        def hold() -> None:
            ended.set()
            for writer in writers:
                writer.join()

        try:
            through_a_pipe(
                lambda far: cast("Any", stream_of(kernel, watch, Exactly(30), far, hold)),
                lambda near: SavedDomain(near).fill(domain, lambda number: None),
            )
        finally:
            hold()
        assert [page_of(domain, mfn) for mfn in guest.frames] == [
            page_of(kernel.domain, mfn) for mfn in guest.frames
        ]


ACTS = ("write", "write", "zero", "read", "give_back", "take", "name", "map", "unmap", "grant", "share")
STEPS = st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 60)), max_size=8)


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    first=STEPS,
    before=st.lists(STEPS, max_size=4),
    after=st.lists(STEPS, max_size=4),
    copied=st.lists(st.tuples(st.integers(0, 60), STEPS), max_size=5),
    held=STEPS,
    rounds=st.integers(1, 4),
)
def test_whatever_the_guest_does(
    watch: WriteWatch,
    first: list[tuple[str, int]],
    before: list[list[tuple[str, int]]],
    after: list[list[tuple[str, int]]],
    copied: list[tuple[int, list[tuple[str, int]]]],
    held: list[tuple[str, int]],
    rounds: int,
) -> None:
    """Before and after each look at what was written, and between two pages."""
    with begun() as kernel:
        guest = Running(kernel)
        due = dict(copied)
        count = 0

        def do(steps: list[tuple[str, int]]) -> None:
            for act, n in steps:
                if act == "give_back":
                    guest.unmap()
                getattr(guest, act)(n)

        def between(mfn: int) -> None:
            nonlocal count
            count += 1
            do(due.pop(count, []))

        do(first)
        watching = Watching(
            watch,
            before=lambda: do(before.pop() if before else []),
            after=lambda: do(after.pop() if after and watching.look.looks <= rounds else []),
            copied=between,
        )
        with arrived(kernel, watching, Exactly(rounds), held=lambda: do(held)):
            pass


# --- rounds


def test_rounds_are_told_of(watch: WriteWatch) -> None:
    """How many pages were written since they were copied, and which of them each time."""
    with begun() as kernel, holding(b"") as fd:
        guest = Running(kernel)
        bytes(kernel.domain.memory.bytes)  # the hypervisor's part is all there then
        told: list[dict[str, float]] = []
        rounds = Exactly(4)

        def before() -> None:
            done = watching.look.looks
            guest.write(1, done + 1)
            guest.write(2, done + 1)
            if done == 1:
                guest.write(3)

        watching = Watching(watch, before=before)
        outgoing = Outgoing(kernel.domain, WHO, fd, on)
        outgoing.copy(cast("WriteWatch", watching), rounds, Heard(), lambda: told.append(rounds.figures()))
        outgoing.end()
        assert [figures["round"] for figures in told] == [1, 2, 3, 4]
        assert [figures["written_pages"] for figures in told] == [2, 3, 2, 2]
        assert [figures["hot_pages"] for figures in told] == [2, 2, 2, 2]
        assert [figures["pages"] for figures in told[1:]] == [2, 3, 2]
        assert all(figures["sent_bytes"] > 0 for figures in told)
        assert sum(figures["sent_bytes"] for figures in told) < os.fstat(fd).st_size


def test_it_ends_though_the_guest_never_rests(watch: WriteWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds_module, "HOPED_S", -1.0)
    with begun() as kernel:
        guest = Running(kernel)
        bytes(kernel.domain.memory.bytes)  # the hypervisor's part is all there then
        watching = Watching(watch, before=lambda: guest.write(1, watching.look.looks + 1))
        with arrived(kernel, watching, Rounds()):
            assert watching.look.looks == rounds_module.NO_BETTER_ROUNDS + 2


def test_a_guest_that_is_not_to_be_held_so_long(watch: WriteWatch) -> None:
    with begun() as kernel, holding(b"") as fd:
        guest = Running(kernel)
        watching = Watching(watch, before=lambda: guest.write(1, watching.look.looks + 1))
        outgoing = Outgoing(kernel.domain, WHO, fd, on)
        with pytest.raises(
            SaveError, match=r"^the domain stays here: its guest would stand still for about .* ms"
        ):
            outgoing.copy(cast("WriteWatch", watching), Exactly(2, worst_s=0.0), Heard(), nothing)
        outgoing.end()
        os.lseek(fd, 0, os.SEEK_SET)
        with pytest.raises(SavedFileError, match=r"^it is cut off$"):
            parts_of(fd)


def test_progress(watch: WriteWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ever more, of what there may be at most; that may become more, too."""
    monkeypatch.setattr("xenion.domain.saved.pages.PIECE_PAGES", 5)
    seen: list[tuple[int, int]] = []

    def note(done: int, most: int) -> bool:
        seen.append((done, most))
        return True

    with begun() as kernel, holding(b"") as fd:
        guest = Running(kernel)

        def before() -> None:
            for n in range(40):
                guest.write(n, watching.look.looks + 1)

        watching = Watching(watch, before=before)
        outgoing = Outgoing(kernel.domain, WHO, fd, note)
        outgoing.copy(cast("WriteWatch", watching), Exactly(4), Heard(), nothing)
        outgoing.finish(machine(kernel))
        outgoing.end()
    assert all(0 < done <= most for done, most in seen)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


# --- the other end


def test_each_round_is_awaited_there(watch: WriteWatch) -> None:
    """Before it is looked at what was written meanwhile."""
    with begun() as kernel, holding(b"") as fd:
        echo, awaited = Echo(), list[int]()
        watching = Watching(watch, before=lambda: awaited.append(watching.look.looks + 1))

        def say(done: int, most: int) -> bool:
            """While it waits, it looks whether it is to go on."""
            if asked.count(len(awaited)) > 2:
                echo.say(len(awaited) + 1)
            asked.append(len(awaited))
            return True

        asked: list[int] = []
        outgoing = Outgoing(kernel.domain, WHO, fd, say)
        outgoing.copy(cast("WriteWatch", watching), Exactly(3), echo, nothing)
        outgoing.end()
        assert awaited == [1, 2, 3]
        os.lseek(fd, 0, os.SEEK_SET)
        reader = Reader(fd)
        reader.begin()
        assert reader.next(HEAD)
        numbers: list[int] = []
        while len(numbers) < 4:
            section = reader.next(PAGES, SYNC)
            if section.kind == SYNC:
                numbers.append(NUMBER.unpack(section.data)[0])
        assert numbers == [1, 2, 3, 4]


def test_the_time_of_a_round_is_until_it_is_there(watch: WriteWatch) -> None:
    class Slow(Echo):
        def heard(self, number: int, seconds: float) -> bool:
            time.sleep(0.05)
            return True

    with begun() as kernel, holding(b"") as fd:
        rounds = Exactly(1)
        outgoing = Outgoing(kernel.domain, WHO, fd, on)
        outgoing.copy(watch, rounds, Slow(), nothing)
        outgoing.end()
        assert rounds.last is not None
        assert rounds.last.seconds >= 0.05


def test_it_is_cancelled_while_the_other_end_is_silent(
    watch: WriteWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "LOOK_S", 0.01)
    with begun() as kernel, holding(b"") as fd:
        asked: list[int] = []

        def enough(done: int, most: int) -> bool:
            asked.append(done)
            return len(asked) < 10

        outgoing = Outgoing(kernel.domain, WHO, fd, enough)
        with pytest.raises(SaveCancelledError):
            outgoing.copy(watch, Exactly(2), Echo(), nothing)
        outgoing.end()


def test_an_echo() -> None:
    echo = Echo()
    assert not echo.heard(1, 0.0)
    assert echo.heard(0, 0.0)
    echo.say(3)
    echo.say(2)
    assert echo.heard(3, 0.0)
    assert not echo.heard(4, 0.01)
    later = threading.Timer(0.02, lambda: echo.say(1 << 70))
    later.start()
    assert echo.heard(1 << 64, 60.0)
    later.join()


# --- what ends it


@pytest.mark.parametrize("last", [1, 2, 5, 9])
def test_it_is_cancelled(watch: WriteWatch, last: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xenion.domain.saved.pages.PIECE_PAGES", 5)
    asked: list[int] = []

    def enough(done: int, most: int) -> bool:
        asked.append(done)
        return len(asked) < last

    with begun() as kernel, holding(b"") as fd:
        guest = Running(kernel)
        for n in range(40):
            guest.write(n)
        before = bytes(kernel.domain.memory.bytes)
        with pytest.raises(SaveCancelledError):
            live(kernel, watch, fd, enough)
        assert len(asked) == last
        assert bytes(kernel.domain.memory.bytes) == before
        os.lseek(fd, 0, os.SEEK_SET)
        with pytest.raises(SavedFileError, match=r"^it is cut off$"):
            parts_of(fd)
        with arrived(kernel, watch, Exactly(2)):
            pass


def test_it_is_cancelled_while_it_is_finished(watch: WriteWatch) -> None:
    with begun() as kernel, holding(b"") as fd:
        go_on = [True]
        outgoing = live(kernel, watch, fd, lambda done, most: go_on[0])
        go_on[0] = False
        with pytest.raises(SaveCancelledError):
            outgoing.finish(machine(kernel))
        outgoing.end()
        outgoing.end()


@pytest.mark.parametrize("room", [0, 100, 3000])
def test_a_reader_that_went_away(watch: WriteWatch, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write_really = os.write

    def write(fd: int, data: bytes) -> int:
        nonlocal room
        if room <= 0:
            theirs.close()
            return write_really(fd, data)
        done = write_really(fd, data[:room])
        room -= done
        return done

    with begun() as kernel:
        kernel.put(os.urandom(PAGE_SIZE), DATA_PFN)
        ours, theirs = socket.socketpair()
        monkeypatch.setattr("xenion.domain.saved.format.os.write", write)
        with ours, theirs, pytest.raises(SaveError, match="Broken pipe"):
            live(kernel, watch, ours.fileno())
        assert not is_protected()


def test_memory_that_cannot_be_watched(watch: WriteWatch) -> None:
    def fails() -> None:
        raise OSError(12, "Cannot allocate memory")

    why = r"^the domain's memory cannot be watched \(Cannot allocate memory\)$"
    with begun() as kernel, holding(b"") as fd:
        with pytest.raises(SaveError, match=why):
            live(kernel, Watching(watch, before=fails), fd)
        late = Watching(watch, before=lambda: fails() if late.look.looks == 1 else None)
        outgoing = live(kernel, late, fd)
        with pytest.raises(SaveError, match=why):
            outgoing.finish(machine(kernel))
        outgoing.end()
        assert not late.look.started


def test_a_watch_that_cannot_be_stopped(watch: WriteWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its guest goes on, and it can be tried again."""

    def fails(look: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    with begun() as kernel, holding(b"") as fd:
        watching = Watching(watch)
        outgoing = live(kernel, watching, fd)
        with monkeypatch.context() as host:
            host.setattr(Disturbed, "stop", fails)
            outgoing.end()
        with arrived(kernel, watch, Exactly(2)):
            pass


def test_a_domain_that_is_only_saved_is_not_watched() -> None:
    with begun() as kernel, holding(b"") as fd:
        outgoing = Outgoing(kernel.domain, WHO, fd, on)
        outgoing.end()
        outgoing.finish(machine(kernel))
        outgoing.end()
        os.lseek(fd, 0, os.SEEK_SET)
        assert [part.kind for part in parts_of(fd)] == [HEAD, STATE, PAGES, DONE]
