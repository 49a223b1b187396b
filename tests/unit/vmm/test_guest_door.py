"""Dom0's door to a domain: what is mapped and copied, what stays marked, and what a guest can do about it meanwhile."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.vmm.kernel import L1, Kernel
from xenion.abi.errno import Errno
from xenion.abi.grant_table import (
    GNTST_bad_copy_arg,
    GNTST_bad_gntref,
    GNTST_bad_page,
    GNTST_general_error,
    GTF_permit_access,
    GTF_reading,
    GTF_readonly,
    GTF_sub_page,
    GTF_writing,
)
from xenion.core import lib
from xenion.vmm.errors import GuestError
from xenion.vmm.events import PortState
from xenion.vmm.grants import GrantStatusError
from xenion.vmm.guest_door import GrantedPage, GuestDoor
from xenion.vmm.memory import PAGE_SIZE

REF, PFN = 9, 20


@dataclass
class Scene:
    """One page granted to Dom0, by entries of the version."""

    kernel: Kernel
    version: int
    door: GuestDoor = field(init=False)

    def __post_init__(self) -> None:
        self.grants, self.state = self.kernel.domain.grants, self.kernel.domain.state
        if self.version == 2:
            self.grants.set_version(self.state, 2)
        self.door = GuestDoor(self.kernel.domain)

    def grant(self, ref: int, mfn: int, flags: int = GTF_permit_access, domid: int = 0) -> None:
        if self.version == 1:
            entry = struct.pack("<HHI", flags, domid, mfn)
        else:
            entry = struct.pack("<HHIQ", flags, domid, 0, mfn)
        self.grants.entry_bytes(ref)[:] = entry

    def marks(self, ref: int) -> int:
        return self.grants.status_bytes(ref)[0] & (GTF_reading | GTF_writing)

    def page(self, pfn: int) -> memoryview:
        return self.kernel.domain.memory.page(self.kernel.mfn(pfn))

    def references(self, pfn: int) -> tuple[int, int]:
        frame = self.state.frames[self.kernel.mfn(pfn)]
        return frame.count & 0x7FFFFFFF, frame.type & 0xFFFFFFFF


@pytest.fixture(params=[1, 2])
def scene(kernel: Kernel, request: pytest.FixtureRequest) -> Iterator[Scene]:
    made = Scene(kernel, request.param)
    made.grant(REF, kernel.mfn(PFN))
    yield made
    assert not made.grants.active


def status_of(scene: Scene, ref: int, *, write: bool) -> int:
    with pytest.raises(GrantStatusError) as caught:
        scene.door.map(ref, write=write)
    return caught.value.status


@pytest.mark.parametrize("write", [False, True])
def test_mapped_page_is_the_guests(scene: Scene, write: bool) -> None:
    before = scene.references(PFN)
    page = scene.door.map(REF, write=write)
    scene.page(PFN)[5] = 77
    assert (len(page.view), page.view[5], page.view.readonly) == (PAGE_SIZE, 77, not write)
    assert scene.marks(REF) == (GTF_reading | GTF_writing if write else GTF_reading)
    assert scene.references(PFN) != before
    page.unmap()
    assert scene.references(PFN) == before
    assert scene.marks(REF) == 0
    with pytest.raises(ValueError, match="released"):
        page.view[0]


def test_grants_that_cannot_be_mapped(scene: Scene) -> None:
    mfn = scene.kernel.mfn(PFN)
    scene.grant(10, mfn, domid=scene.kernel.domain.domid)
    scene.grant(11, mfn, GTF_permit_access | GTF_readonly)
    scene.grant(12, mfn, 0)
    scene.grant(13, 1 << 30)
    scene.grant(14, scene.kernel.mfn(L1))
    scene.grant(15, mfn, GTF_permit_access | GTF_sub_page)
    assert status_of(scene, 10, write=False) == GNTST_general_error
    assert status_of(scene, 11, write=True) == GNTST_general_error
    assert status_of(scene, 12, write=False) == GNTST_general_error
    assert status_of(scene, 13, write=False) == GNTST_bad_page
    assert status_of(scene, 14, write=True) == GNTST_general_error
    assert status_of(scene, 15, write=False) == GNTST_general_error
    assert status_of(scene, 1 << 20, write=False) == GNTST_bad_gntref
    assert [scene.marks(ref) for ref in range(9, 16)] == [0] * 7
    scene.door.map(11, write=False).unmap()


def test_mapped_page_cannot_become_a_table(scene: Scene) -> None:
    mfn = scene.kernel.mfn(PFN)
    lib.core_change_l1(scene.state, scene.kernel.mfn(L1) * PAGE_SIZE + PFN * 8, mfn << 12 | 0x63, 0)
    page = scene.door.map(REF, write=True)
    assert lib.core_pin(scene.state, mfn, 1) < 0
    page.unmap()
    assert lib.core_pin(scene.state, mfn, 1) == 0


def test_mapped_page_outlives_what_the_guest_gives_back(scene: Scene) -> None:
    """It is the host's again when Dom0 is done and the vCPU has looked."""
    mfn, pages = scene.kernel.mfn(PFN), scene.kernel.domain.pages
    lib.core_change_l1(scene.state, scene.kernel.mfn(L1) * PAGE_SIZE + PFN * 8, mfn << 12 | 0x63, 0)
    page = scene.door.map(REF, write=True)
    assert lib.core_release_frame(scene.state, mfn) == 0
    page.view[0] = 1
    page.unmap()
    assert scene.kernel.domain.pages == pages
    lib.core_kicked(scene.state.vcpus)
    assert scene.kernel.domain.pages == pages - 1
    assert status_of(scene, REF, write=False) == GNTST_bad_page


def test_mapped_twice(scene: Scene) -> None:
    first, second = scene.door.map(REF, write=False), scene.door.map(REF, write=True)
    second.unmap()
    assert scene.marks(REF) == GTF_reading
    first.unmap()
    assert scene.marks(REF) == 0


def test_copy_from_several_pages(scene: Scene) -> None:
    scene.grant(10, scene.kernel.mfn(21), GTF_permit_access | GTF_readonly)
    scene.page(PFN)[100:104], scene.page(21)[:3] = b"abcd", b"efg"
    assert scene.door.copy_from([(REF, 100, 4), (10, 0, 3), (REF, 101, 1)]) == (b"abcdefgb", [0, 0, 0])
    assert scene.door.copy_from([]) == (b"", [])


def test_copy_to_several_pages(scene: Scene) -> None:
    scene.grant(10, scene.kernel.mfn(21), GTF_permit_access | GTF_readonly)
    parts: list[tuple[int, int, bytes | memoryview]] = [
        (REF, 4094, b"ab"),
        (10, 0, b"cd"),
        (REF, 0, memoryview(b"xefx")[1:3]),
        (REF, 4095, b"gh"),
        (REF, 7, b""),
    ]
    assert scene.door.copy_to(parts) == [0, GNTST_general_error, 0, GNTST_bad_copy_arg, 0]
    assert bytes(scene.page(PFN)[4094:]) + bytes(scene.page(PFN)[:2]) == b"abef"
    assert not any(scene.page(21))
    assert scene.references(PFN) == (2, 1)
    assert scene.marks(REF) == 0


def test_mapped_entry_keeps_its_mark_while_it_is_copied(scene: Scene) -> None:
    page = scene.door.map(REF, write=True)
    scene.grant(10, scene.kernel.mfn(21))
    assert scene.door.copy_to([(REF, 3, b"z"), (10, 3, b"y"), (REF, 4095, b"zz")]) == [
        0,
        0,
        GNTST_bad_copy_arg,
    ]
    assert scene.door.copy_from([(10, 3, 1), (REF, 3, 1)]) == (b"yz", [0, 0])
    assert scene.marks(REF) == GTF_reading | GTF_writing
    page.unmap()
    assert scene.marks(REF) == 0
    assert scene.references(PFN) == (2, 1)


def test_part_of_a_page(kernel: Kernel) -> None:
    scene = Scene(kernel, 2)
    flags = GTF_permit_access | GTF_sub_page
    scene.grants.entry_bytes(REF)[:] = struct.pack("<HHHHQ", flags, 0, 16, 8, kernel.mfn(PFN))
    assert scene.door.copy_to([(REF, 16, b"12345678"), (REF, 15, b"x"), (REF, 24, b"x")]) == [
        0,
        GNTST_general_error,
        GNTST_general_error,
    ]
    assert bytes(scene.page(PFN)[:32]).strip(b"\0") == b"12345678"


def test_more_grants_are_reached_when_the_table_grows(scene: Scene) -> None:
    ref = scene.grants.entries + 3
    assert scene.door.copy_to([(ref, 0, b"a")]) == [GNTST_bad_gntref]
    scene.grants.grow(scene.state, 2)
    scene.grant(ref, scene.kernel.mfn(PFN))
    assert scene.door.copy_to([(ref, 0, b"a")]) == [0]


acts = st.lists(
    st.one_of(
        st.tuples(st.just("map"), st.integers(8, 11), st.booleans()),
        st.tuples(st.just("unmap"), st.integers(0, 5), st.booleans()),
        st.tuples(st.just("copy"), st.lists(st.integers(8, 12), max_size=3), st.booleans()),
    ),
    max_size=25,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(acts)
def test_marks_and_references_follow_what_is_mapped(
    scene: Scene, acts: list[tuple[str, object, bool]]
) -> None:
    """Whatever is copied in between; 11 is read-only, 12 not granted. 8 and 9 are one page."""
    pfns = {8: PFN, 9: PFN, 10: 21, 11: 22}
    for ref, pfn in pfns.items():
        scene.grant(ref, scene.kernel.mfn(pfn), GTF_permit_access | (GTF_readonly if ref == 11 else 0))
    resting = {pfn: scene.references(pfn) for pfn in pfns.values()}
    mapped: list[tuple[int, bool, GrantedPage]] = []
    for act, what, write in acts:
        if act == "map" and isinstance(what, int) and not (what == 11 and write):
            mapped.append((what, write, scene.door.map(what, write=write)))
        elif act == "unmap" and isinstance(what, int) and what < len(mapped):
            mapped.pop(what)[2].unmap()
        elif act == "copy" and isinstance(what, list):
            good = [0 if ref < 11 or (ref == 11 and not write) else GNTST_general_error for ref in what]
            if write:
                assert scene.door.copy_to([(ref, 8, b"abc") for ref in what]) == good
            else:
                assert scene.door.copy_from([(ref, 8, 3) for ref in what])[1] == good
        for ref in pfns:
            writes = [write for mapped_ref, write, _ in mapped if mapped_ref == ref]
            assert scene.marks(ref) == (GTF_reading if writes else 0) | (GTF_writing if any(writes) else 0)
    for _, _, page in mapped:
        page.unmap()
    assert {pfn: scene.references(pfn) for pfn in pfns.values()} == resting


# --- events


def test_port(kernel: Kernel) -> None:
    events, calls = kernel.domain.events, []
    number = events.allocate(PortState.UNBOUND, 0, 0)
    port = GuestDoor(kernel.domain).bind(number, lambda: calls.append(1))
    events.dispatch()
    assert calls == [1]
    port.notify()
    lib.core_kicked(kernel.domain.state.vcpus)
    assert kernel.domain.memory.page(kernel.domain.memory.shared_info_mfn)[2048] == 1 << number
    port.close()
    assert events.state(number) == PortState.UNBOUND


def test_port_whose_number_has_another_owner(kernel: Kernel) -> None:
    """The guest closed it, and bound the number again: the old end has nothing to do with it."""
    events, door = kernel.domain.events, GuestDoor(kernel.domain)
    calls: list[int] = []

    def handler() -> None:
        calls.append(1)

    number = events.allocate(PortState.UNBOUND, 0, 0)
    old = door.bind(number, handler)
    events.close(number)
    assert events.allocate(PortState.UNBOUND, 0, 0) == number
    door.bind(number, handler)
    old.notify()
    lib.core_kicked(kernel.domain.state.vcpus)
    assert kernel.domain.memory.page(kernel.domain.memory.shared_info_mfn)[2048] == 0
    old.close()
    assert events.state(number) == PortState.INTERDOMAIN
    events.dispatch()
    assert calls == [1]


def test_bind_of_a_port_that_does_not_wait(kernel: Kernel) -> None:
    with pytest.raises(GuestError) as caught:
        GuestDoor(kernel.domain).bind(1, print)
    assert caught.value.errno == Errno.EINVAL
