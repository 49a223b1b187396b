"""A saved domain out of its file; and files that somebody has had their hands on, with checksums as they must be."""

import os
import struct
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.domain.saved.reading_kit import refused
from tests.unit.domain.saved.test_format import file_of, holding, through_a_pipe
from tests.unit.domain.saved.test_format import section as framed
from tests.unit.domain.saved.test_pages import section as page_section
from tests.unit.domain.saved.test_state import HEAD as WHO
from tests.unit.domain.saved.test_write import save, saved, sections
from tests.unit.vmm.saved_kit import (
    DATA_PFN,
    all_of_it,
    begun,
    but_the_time,
    check,
    empty_domain,
    fill_memory,
    frames_of,
    hypervisors_pages,
    mutate,
    own_pages,
    through_a_file,
)
from xenion.domain.saved.format import (
    DONE,
    HOST,
    PAGES,
    START,
    STATE,
    Reader,
    SavedFileError,
    Section,
)
from xenion.domain.saved.read import SavedDomain
from xenion.vmm.domain import Domain
from xenion.vmm.saved import capture

Sections = list[tuple[bytes, bytes]]


@pytest.fixture(scope="module")
def parts() -> Iterator[list[Section]]:
    """Of a small domain with one vCPU."""
    with begun() as kernel:
        fill_memory(kernel)
        with saved(kernel) as fd:
            yield sections(fd)


@pytest.fixture(scope="module")
def whole(parts: list[Section]) -> bytes:
    return file_of([*parts])


def read(data: bytes, domain: Domain) -> SavedDomain:
    with holding(data) as fd:
        found = SavedDomain(fd)
        found.fill(domain)
        return found


def with_state(parts: list[Section], **fields: Any) -> Section:
    """The section of another state of the domain."""
    tree = msgspec.json.decode(parts[1].data)
    tree["domain"] |= fields
    return Section(STATE, msgspec.json.encode(tree))


# --- as it was


@pytest.mark.parametrize("vcpus", [1, 3])
def test_a_domain_goes_through_a_file(vcpus: int) -> None:
    with begun(vcpus) as kernel:
        fill_memory(kernel)
        if vcpus > 1:
            all_of_it(kernel)
        before = capture(kernel.domain)
        with saved(kernel) as fd, empty_domain(vcpus) as domain:
            found = SavedDomain(fd)
            assert found.head == WHO
            found.fill(domain)
            assert but_the_time(found.state.domain) == but_the_time(before)
            assert but_the_time(capture(domain)) == but_the_time(through_a_file(before))
            assert frames_of(domain) == frames_of(kernel.domain)
            assert own_pages(domain) == own_pages(kernel.domain)


def test_a_domain_goes_through_a_pipe() -> None:
    """From its process to that of the new one, which may well be elsewhere."""
    with begun() as kernel, empty_domain() as domain:
        for pfn in range(DATA_PFN, DATA_PFN + 40):
            kernel.put(os.urandom(4096), pfn)
        through_a_pipe(lambda far: save(kernel, far), lambda near: SavedDomain(near).fill(domain))
        assert own_pages(domain) == own_pages(kernel.domain)


def test_what_comes_behind_it_is_somebody_elses(whole: bytes) -> None:
    with holding(whole + framed(HOST, b"{}")) as fd, empty_domain() as domain:
        SavedDomain(fd).fill(domain)
        assert Reader(fd).section(HOST) == b"{}"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"cpuid": [(7, 0, 0, 1, 0, 0)]}, "this processor does not have all that its CPUID leaves promise"),
        ({"processor": "hardware"}, "it ran on the hardware processor, and this is the software one"),
    ],
)
def test_a_guest_of_another_processor_is_refused_before_its_memory_comes(
    parts: list[Section], fields: dict[str, Any], says: str
) -> None:
    head = Section(parts[0].kind, msgspec.json.encode(msgspec.structs.replace(WHO, **fields)))
    with holding(file_of([head])) as fd, empty_domain() as domain:
        found = SavedDomain(fd)
        with pytest.raises(SavedFileError, match=says):
            found.fill(domain)


# --- cut off, or changed


def test_a_cut_at_every_byte(whole: bytes, parts: list[Section]) -> None:
    """It is found before the part that it is in is used."""
    kinds = [part.kind for part in parts]
    with holding(whole) as fd:
        for size in reversed(range(len(whole))):
            os.truncate(fd, size)
            os.lseek(fd, 0, os.SEEK_SET)
            reader = Reader(fd)
            with pytest.raises(SavedFileError) as error:
                read_all(reader, kinds)
            why = "it is not a saved domain" if size < START.size else "it is cut off"
            assert str(error.value) == why


def read_all(reader: Reader, kinds: list[bytes]) -> None:
    reader.begin()
    for kind in kinds:
        reader.next(kind)


@settings(max_examples=40)
@given(data=st.data())
def test_a_cut_anywhere(whole: bytes, parts: list[Section], data: st.DataObject) -> None:
    """With the domain that it was to become."""
    size = data.draw(st.one_of(st.integers(0, len(whole) - 1), st.integers(len(whole) - 200, len(whole) - 1)))
    refused(whole[:size], "^it is (cut off|not a saved domain)$")


@settings(max_examples=60)
@given(data=st.data())
def test_bytes_that_are_others(whole: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[at] ^= data.draw(st.integers(1, 255))
    refused(bytes(changed), r"^it is (damaged|cut off|not a saved domain|of version \d+, .*)$")


@pytest.mark.parametrize("version", [2, 70000])
def test_a_newer_version(whole: bytes, version: int) -> None:
    data = START.pack(b"XENIONSV", version) + whole[START.size :]
    refused(data, f"^it is of version {version}, and this Xenion reads version 1: restore it with")


# --- with checksums as they must be

ORDERS: dict[str, Callable[[list[Section]], list[Section]]] = {
    "no head": lambda parts: parts[1:],
    "no state": lambda parts: [parts[0], *parts[2:]],
    "state first": lambda parts: [parts[1], parts[0], *parts[2:]],
    "two heads": lambda parts: [parts[0], parts[0], *parts[1:]],
    "two states": lambda parts: [*parts[:2], *parts[1:]],
    "the host's too early": lambda parts: [*parts[:-1], Section(HOST, b"{}"), parts[-1]],
}


@pytest.mark.parametrize("order", ORDERS)
def test_sections_out_of_order(parts: list[Section], order: str) -> None:
    refused(
        file_of([*ORDERS[order](parts)]), "^it is damaged(: it has pages that are none of the domain's)?$"
    )


def test_no_end(parts: list[Section]) -> None:
    refused(file_of([*parts[:-1]]), "^it is cut off$")


@pytest.mark.parametrize("more", [-1, 1, -1000, 1 << 40])
def test_another_count_of_pages(parts: list[Section], more: int) -> None:
    (count,) = struct.unpack("<Q", parts[-1].data)
    end = struct.pack("<Q", (count + more) % (1 << 64))
    refused(file_of([*parts[:-1], (DONE, end)]), "^it is damaged: pages are missing$")


@pytest.mark.parametrize("end", [b"", b"\0", bytes(7)])
def test_an_end_of_another_size(parts: list[Section], end: bytes) -> None:
    refused(file_of([*parts[:-1], (DONE, end)]), "^it is damaged: pages are missing$")


def test_pages_are_missing(parts: list[Section]) -> None:
    refused(file_of([*parts[:2], parts[-1]]), "^it is damaged: pages are missing$")


def with_pages(parts: list[Section], frames: list[int], state: Section | None = None) -> bytes:
    """These pages are in it as well, and counted."""
    (count,) = struct.unpack("<Q", parts[-1].data)
    end = Section(DONE, struct.pack("<Q", count + len(frames)))
    pages = Section(PAGES, page_section(frames))
    return file_of([parts[0], state or parts[1], *parts[2:-1], pages, end])


@pytest.mark.parametrize(
    "what", ["zero_mfn", "reserved_gdt_mfn", "hole_l3", "user_hole_l3", "areas_l1", "nr_frames"]
)
@pytest.mark.parametrize("owned", [None, (0, 1 << 40), (1, 94), (0, (1 << 64) - 1)])
def test_pages_that_are_the_hypervisors(
    parts: list[Section], what: str, owned: tuple[int, int] | None
) -> None:
    """Whatever is said of whose they are."""
    own = msgspec.json.decode(parts[1].data)["domain"]["owned"]
    state = with_state(parts, owned=[*own, owned]) if owned else None
    with empty_domain() as domain:
        frame = getattr(domain.memory, what)
    refused(with_pages(parts, [frame], state), ".")


@pytest.mark.parametrize("frame", [0, 200, 1 << 40, (1 << 64) - 1])
def test_pages_that_there_are_not(parts: list[Section], frame: int) -> None:
    state = with_state(parts, owned=[[0, (1 << 64) - 1], [(1 << 64) - 1, 1]])
    refused(with_pages(parts, [frame], state), ".")


def test_a_page_that_is_there_twice(parts: list[Section]) -> None:
    """The last one counts; it is somebody's own memory."""
    with empty_domain() as domain:
        mfn = domain.space.mfn(DATA_PFN)
        read(with_pages(parts, [mfn, mfn]), domain)
        assert bytes(domain.memory.page(mfn)) == b"\7" * 4096


def test_tables_that_lead_to_others_memory(parts: list[Section]) -> None:
    """They are looked at anew."""
    with empty_domain() as domain:
        table, stranger = domain.space.mfn(3), domain.memory.hole_l3
    page = struct.pack("<Q", stranger << 12 | 0x63) + bytes(4088)
    (count,) = struct.unpack("<Q", parts[-1].data)
    pages = Section(PAGES, page_section([table], page))
    data = file_of([*parts[:-1], pages, (DONE, struct.pack("<Q", count + 1))])
    refused(data, "^its state makes no sense: its page tables$")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"processor": "abacus"}, "^it ran on the abacus processor, and this is the software one$"),
        ({"most_pages": 1 << 62}, "^its state makes no sense: the size of its memory$"),
        ({"most_pages": -1}, "^it makes no sense "),
        ({"grant_version": 3}, "^it makes no sense "),
        ({"grant_frames": 65}, "^it makes no sense "),
        ({"vcpus": []}, "^it makes no sense "),
        ({"owned": []}, "^it is damaged: it has pages that are none of the domain's$"),
        ({"more": 1}, "^it makes no sense "),
    ],
    ids=str,
)
def test_states_that_cannot_be(parts: list[Section], fields: dict[str, Any], why: str) -> None:
    refused(file_of([parts[0], with_state(parts, **fields), *parts[2:]]), why)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"\xff", b"{" * 1000, b'{"name":"\xff"}', bytes(1 << 16)]
)
@pytest.mark.parametrize("which", [0, 1])
def test_what_is_no_json(parts: list[Section], which: int, data: bytes) -> None:
    changed = [*parts]
    changed[which] = Section(parts[which].kind, data)
    refused(file_of([*changed]), "^it makes no sense ")


@settings(max_examples=80)
@given(data=st.data())
def test_any_state_with_any_pages(parts: list[Section], data: st.DataObject) -> None:
    """It is refused, or is a guest like any other."""
    tree = msgspec.json.decode(parts[1].data)
    for _ in range(data.draw(st.integers(0, 2))):
        mutate(tree["domain"], data)
    wild = st.sampled_from([0, 1, 11, 80, 95, 160, 170, 1 << 40, (1 << 64) - 1])
    owned = tree["domain"].get("owned")
    if isinstance(owned, list):
        owned += data.draw(st.lists(st.lists(wild, min_size=2, max_size=2), max_size=2))
    state = Section(STATE, msgspec.json.encode(tree))
    frames = data.draw(
        st.lists(
            st.one_of(st.integers(0, 170), st.sampled_from([0, 10, 12, 14, 18, 167, 1 << 39, (1 << 64) - 1])),
            max_size=2,
        )
    )
    file = with_pages(parts, frames, state) if frames else file_of([parts[0], state, *parts[2:]])
    with empty_domain() as domain:
        before = hypervisors_pages(domain)
        try:
            read(file, domain)
        except SavedFileError:
            assert hypervisors_pages(domain) == before
        else:
            check(domain)
