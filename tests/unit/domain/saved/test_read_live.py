"""A domain that came from another host while it ran there; and streams that somebody has had their hands on, with
checksums as they must be."""

import os
import socket
import struct
import threading
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.domain.saved import reading_kit
from tests.unit.domain.saved.moving_kit import (
    Exactly,
    Running,
    is_the_same,
    machine,
    parts_of,
    stream_of,
)
from tests.unit.domain.saved.test_format import file_of, holding
from tests.unit.domain.saved.test_format import section as framed
from tests.unit.domain.saved.test_pages import frames_in
from tests.unit.domain.saved.test_pages import section as page_section
from tests.unit.domain.saved.test_write import save
from tests.unit.vmm.saved_kit import (
    DATA_PFN,
    begun,
    check,
    empty_domain,
    fill_memory,
    hypervisors_pages,
    mutate,
)
from xenion.domain.saved import read as read_module
from xenion.domain.saved.format import (
    DONE,
    HEAD,
    HOST,
    NUMBER,
    PAGES,
    START,
    STATE,
    SYNC,
    Reader,
    SavedFileError,
    Section,
)
from xenion.domain.saved.pages import ZERO, resident
from xenion.domain.saved.read import MOST_SYNCS, SavedDomain
from xenion.domain.saved.state import MachineState
from xenion.vmm.domain import Domain
from xenion.vmm.memory import PAGE_SIZE
from xenion.vmm.written import WriteWatch

SECOND = 10**9
refused = partial(reading_kit.refused, echo=lambda number: None)


@pytest.fixture(scope="module")
def parts() -> Iterator[list[Section]]:
    """Of a small domain: pages before its state, and one that was written again behind it."""
    with begun() as kernel, holding(b"") as fd:
        fill_memory(kernel)
        guest = Running(kernel)
        guest.write(1)
        guest.write(2)
        watch = WriteWatch(None)
        stream_of(kernel, watch, Exactly(2), fd, lambda: guest.write(1, 2))
        os.lseek(fd, 0, os.SEEK_SET)
        yield parts_of(fd)


@pytest.fixture(scope="module")
def whole(parts: list[Section]) -> bytes:
    return file_of([*parts])


def read(data: bytes, domain: Domain) -> list[int]:
    """The rounds that were echoed."""
    echoes: list[int] = []
    with holding(data) as fd:
        SavedDomain(fd).fill(domain, echoes.append)
    return echoes


def state_at(parts: list[Section]) -> int:
    return [part.kind for part in parts].index(STATE)


def counted(parts: list[Section]) -> bytes:
    """With as many pages at the end as there are."""
    count = sum(len(frames_in(part.data)) for part in parts if part.kind == PAGES)
    return file_of([*parts[:-1], (DONE, struct.pack("<Q", count))])


def with_early(parts: list[Section], frames: list[int], page: bytes = b"\7" * PAGE_SIZE) -> bytes:
    """These pages come, too, while it runs elsewhere, and are counted."""
    at = state_at(parts)
    pages = Section(PAGES, page_section(frames, page * len(frames)))
    return counted([*parts[:at], pages, *parts[at:]])


def with_late(parts: list[Section], frames: list[int]) -> bytes:
    return counted([*parts[:-1], Section(PAGES, page_section(frames)), parts[-1]])


# --- as it was


def test_the_parts_that_matter_are_in_there(parts: list[Section]) -> None:
    at = state_at(parts)
    assert at > 1
    assert PAGES in [part.kind for part in parts[at:]]


def test_through_a_socket(watch: WriteWatch) -> None:
    """As its process gets it, in whatever parts they come."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with begun() as kernel, empty_domain() as domain, ours, theirs:
        fill_memory(kernel)
        found: list[SavedDomain] = []

        def fill() -> None:
            found.append(SavedDomain(theirs.fileno()))
            found[0].fill(domain, lambda number: None)

        thread = threading.Thread(target=fill)
        thread.start()
        stream_of(kernel, watch, Exactly(3), ours.fileno())
        ours.close()
        thread.join(60)
        assert theirs.recv(1) == b""
        is_the_same(domain, kernel)
        assert found[0].state.talk == machine(kernel).talk


def test_what_comes_behind_it_is_somebody_elses(whole: bytes) -> None:
    with holding(whole + framed(HOST, b"{}")) as fd, empty_domain() as domain:
        SavedDomain(fd).fill(domain, lambda number: None)
        assert Reader(fd).section(HOST) == b"{}"


def test_early_pages_that_are_none_of_the_domains_in_the_end(parts: list[Section]) -> None:
    """The host has no memory for them, and the next one that gets such a frame finds zeros."""
    with empty_domain() as domain:
        spare = [domain.memory.nr_frames - 1, domain.memory.nr_frames - 2]
        read(with_early(parts, spare), domain)
        assert resident(domain.memory, [(spare[1], 2)]) == []
        assert bytes(domain.memory.page(spare[0])) == ZERO
        check(domain)


def test_the_last_copy_counts(parts: list[Section]) -> None:
    with empty_domain() as domain:
        mfn = domain.space.mfn(DATA_PFN)
        read(with_early(parts, [mfn, mfn]), domain)
        assert bytes(domain.memory.page(mfn)) == b"\7" * PAGE_SIZE
    with empty_domain() as domain:
        at = state_at(parts)
        pages = Section(PAGES, page_section([mfn]))
        read(counted([parts[0], pages, *parts[1:at], *parts[at:]]), domain)
        assert bytes(domain.memory.page(mfn)).endswith(b"something")


# --- the time that passes


def late(domain: Domain, parts: list[Section], passed_ns: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many ns later than it was saved its guest finds itself."""
    times = iter([SECOND, SECOND + passed_ns])
    with monkeypatch.context() as patch:
        patch.setattr(read_module, "time", SimpleNamespace(monotonic_ns=lambda: next(times)))
        read(file_of([*parts]), domain)
    state = msgspec.json.decode(parts[state_at(parts)].data, type=MachineState)
    return domain.system_time() - state.domain.clock.system_time


@pytest.mark.parametrize("passed_ns", [0, SECOND // 20, 40 * SECOND])
def test_its_clock_goes_on_while_the_rest_comes(
    parts: list[Section], passed_ns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with empty_domain() as domain:
        later = late(domain, parts, passed_ns, monkeypatch)
    assert passed_ns - SECOND // 1000 <= later < passed_ns + 5 * SECOND


def test_the_clock_of_one_that_was_saved_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    with begun() as kernel, holding(b"") as fd, empty_domain() as domain:
        save(kernel, fd)
        os.lseek(fd, 0, os.SEEK_SET)
        assert late(domain, parts_of(fd), 40 * SECOND, monkeypatch) < 20 * SECOND


# --- cut off, or changed


@settings(max_examples=40)
@given(data=st.data())
def test_a_cut_anywhere(whole: bytes, data: st.DataObject) -> None:
    size = data.draw(st.integers(0, len(whole) - 1))
    refused(whole[:size], "^it is (cut off|not a saved domain)$")


@settings(max_examples=60)
@given(data=st.data())
def test_bytes_that_are_others(whole: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[at] ^= data.draw(st.integers(1, 255))
    refused(bytes(changed), r"^it is (damaged|cut off|not a saved domain|of version \d+, .*)$")


def test_no_state_ever(parts: list[Section]) -> None:
    at = state_at(parts)
    refused(file_of([*parts[:at]]), "^it is cut off$")
    refused(file_of([*parts[:at], parts[-1]]), "^it is damaged$")
    refused(file_of([*parts[:at], *parts[at + 1 :]]), "^it is damaged")


def test_two_states(parts: list[Section]) -> None:
    at = state_at(parts)
    for again in (at + 1, len(parts) - 1):
        refused(file_of([*parts[:again], parts[at], *parts[again:]]), "^it is damaged$")


@pytest.mark.parametrize("kind", [HEAD, HOST, DONE])
def test_what_has_no_place_there(parts: list[Section], kind: bytes) -> None:
    data = {HEAD: parts[0].data, HOST: b"{}", DONE: parts[-1].data}[kind]
    for at in range(1, len(parts) - 1):
        refused(file_of([*parts[:at], Section(kind, data), *parts[at:]]), "^it is damaged")


def syncs(parts: list[Section]) -> list[int]:
    return [at for at, part in enumerate(parts) if part.kind == SYNC]


def test_rounds_are_echoed_as_they_come(parts: list[Section]) -> None:
    """Each before anything of the next one is read."""
    near, far = os.pipe()
    heard: list[int] = []

    def send_the_next(number: int) -> None:
        heard.append(number)
        os.write(far, rest.pop(0))

    ends = [0, *(at + 1 for at in syncs(parts)), len(parts)]
    first, *rest = [file_of([*parts[start:end]]) for start, end in pairwise(ends)]
    rest = [data[START.size :] for data in rest]
    os.write(far, first)
    with empty_domain() as domain:
        SavedDomain(near).fill(domain, send_the_next)
        check(domain)
    assert (heard, rest) == ([1, 2, 3], [])
    os.close(near)
    os.close(far)


def test_a_file_has_no_rounds(whole: bytes) -> None:
    """They are for a host that waits."""
    with (
        holding(whole) as fd,
        empty_domain() as domain,
        pytest.raises(SavedFileError, match=r"^it is damaged$"),
    ):
        SavedDomain(fd).fill(domain)


@pytest.mark.parametrize("data", [b"", bytes(7), NUMBER.pack(0), NUMBER.pack(1), NUMBER.pack(3), b"\xff" * 8])
def test_rounds_out_of_order(parts: list[Section], data: bytes) -> None:
    at = syncs(parts)[1]
    refused(file_of([*parts[:at], Section(SYNC, data), *parts[at + 1 :]]), "^it is damaged$")


def test_rounds_after_the_last(parts: list[Section]) -> None:
    sync = Section(SYNC, NUMBER.pack(3))
    for at in (state_at(parts) + 1, len(parts) - 1):
        refused(file_of([*parts[:at], sync, *parts[at:]]), "^it is damaged$")


def test_rounds_without_end(parts: list[Section]) -> None:
    """Each is an entry of the journal."""
    many = [Section(SYNC, NUMBER.pack(number)) for number in range(4, MOST_SYNCS + 1)]
    at = state_at(parts)
    with empty_domain() as domain:
        assert read(file_of([*parts[:at], *many, *parts[at:]]), domain) == list(range(1, MOST_SYNCS + 1))
    more = Section(SYNC, NUMBER.pack(MOST_SYNCS + 1))
    refused(file_of([*parts[:at], *many, more, *parts[at:]]), "^it is damaged$")


@pytest.mark.parametrize("more", [-1, 1, -1000, 1 << 40])
def test_another_count_of_pages(parts: list[Section], more: int) -> None:
    """It is of all pages, the early ones, too."""
    (count,) = struct.unpack("<Q", parts[-1].data)
    end = struct.pack("<Q", (count + more) % (1 << 64))
    refused(file_of([*parts[:-1], (DONE, end)]), "^it is damaged: pages are missing$")


def test_pages_are_missing(parts: list[Section]) -> None:
    for at, part in enumerate(parts):
        if part.kind == PAGES:
            refused(file_of([*parts[:at], *parts[at + 1 :]]), "^it is damaged: pages are missing$")


PRIVATE = ["zero_mfn", "reserved_gdt_mfn", "hole_l3", "user_hole_l3", "areas_l1", "nr_frames"]
SHARED = ["shared_info_mfn", "spare_info_mfn", "grant_mfn"]
"""Those come last, when they are what they will be."""


@pytest.mark.parametrize("what", PRIVATE + SHARED)
def test_early_pages_that_are_the_hypervisors(parts: list[Section], what: str) -> None:
    with empty_domain() as domain:
        frame, own = getattr(domain.memory, what), domain.memory.first_mfn
    why = "^it is damaged: it has pages that are none of the domain's$"
    refused(with_early(parts, [frame]), why)
    refused(with_early(parts, [own, frame]), why)


@pytest.mark.parametrize("frame", [0, 1 << 20, 1 << 40, (1 << 52) - 1, (1 << 63), (1 << 64) - 1])
def test_early_pages_that_there_are_not(parts: list[Section], frame: int) -> None:
    refused(with_early(parts, [frame]), "^it is damaged: it has pages that are none of the domain's$")


def test_late_pages_that_are_none_of_the_domains(parts: list[Section]) -> None:
    """What was allowed before its state was known is not any more."""
    with empty_domain() as domain:
        spare = domain.memory.nr_frames - 1
    refused(with_late(parts, [spare]), "^it is damaged: it has pages that are none of the domain's$")


def test_early_tables_that_lead_to_others_memory(parts: list[Section]) -> None:
    """And are not written again: they are looked at all the same."""
    with empty_domain() as domain:
        table, stranger = domain.space.mfn(3), domain.memory.hole_l3
    page = struct.pack("<Q", stranger << 12 | 0x63) + bytes(PAGE_SIZE - 8)
    refused(with_early(parts, [table], page), "^its state makes no sense: its page tables$")


def test_a_machine_to_physical_table_of_lies(parts: list[Section]) -> None:
    """The guest believes it; nobody else does."""
    with empty_domain() as domain:
        memory = domain.memory
        read(with_early(parts, [memory.m2p_mfn], b"\xff" * PAGE_SIZE), domain)
        check(domain)


@pytest.mark.parametrize(
    ("vcpus", "pages", "what"),
    [
        (1, 40, "the size of its memory"),
        (1, 200, "the size of its memory"),
        (2, 72, "the count of its virtual CPUs"),
    ],
)
def test_a_domain_of_another_size(parts: list[Section], vcpus: int, pages: int, what: str) -> None:
    """xend has made room for another one."""
    with (
        empty_domain(vcpus, pages) as domain,
        pytest.raises(SavedFileError, match=f"^its state makes no sense: {what}$"),
    ):
        read(file_of([*parts]), domain)


@settings(max_examples=80)
@given(data=st.data())
def test_any_order(parts: list[Section], data: st.DataObject) -> None:
    """Some of its sections, some of them more than once, with any state and any pages: it is refused, or is a guest
    like any other."""
    tree = msgspec.json.decode(parts[state_at(parts)].data)
    for _ in range(data.draw(st.integers(0, 1))):
        mutate(tree["domain"], data)
    frames = st.one_of(
        st.integers(90, 170), st.sampled_from([0, 1, 9, 10, 14, 18, 94, 167, 1 << 39, (1 << 64) - 1])
    )
    more = [
        Section(STATE, msgspec.json.encode(tree)),
        *(
            Section(PAGES, page_section(data.draw(st.lists(frames, min_size=1, max_size=3, unique=True))))
            for _ in range(2)
        ),
    ]
    middle = data.draw(st.lists(st.sampled_from([*parts[1:-1], *more]), max_size=8))
    if data.draw(st.booleans()):
        middle = [*parts[1:-1], *middle] if data.draw(st.booleans()) else [*middle, *parts[1:-1]]
    file = counted([parts[0], *middle, parts[-1]])
    with empty_domain() as domain:
        before = hypervisors_pages(domain)
        try:
            read(file, domain)
        except SavedFileError:
            assert hypervisors_pages(domain) == before
        else:
            check(domain)
