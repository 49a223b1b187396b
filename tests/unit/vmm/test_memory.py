"""The layout of a domain's machine memory, and the builder's view of it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xenion.vmm.memory import (
    GRANT_FRAMES,
    MAX_VCPUS,
    PAGE_SIZE,
    BuildSpace,
    MachineMemory,
)

PRESENT, WRITE, USER, NX = 1, 2, 4, 1 << 63


def walk(memory: MachineMemory, address: int, l4_entry: int | None = None) -> tuple[int, int]:
    """(frame, what all levels allow of WRITE and USER) behind an address in the hole; (0, 0): nothing."""
    top = memory.hole_entry if l4_entry is None else l4_entry
    table, rights = top >> 12, (WRITE | USER) & top
    for shift in (30, 21, 12):
        entry = memory.words[table * 512 + (address >> shift & 511)]
        if not entry & PRESENT:
            return 0, 0
        table, rights = (entry & ~NX) >> 12, rights & entry
    return table, rights


@settings(max_examples=25)
@given(nr_pages=st.integers(1, 300_000), ring_3=st.booleans())
def test_layout(nr_pages: int, ring_3: bool) -> None:
    memory = MachineMemory(nr_pages, hole_slot=257 if ring_3 else 256, ring_3_kernel=ring_3)
    try:
        m2p_frames = -(-memory.nr_frames * 8 // PAGE_SIZE)
        for page in {0, m2p_frames // 2, m2p_frames - 1}:
            address, user = memory.m2p_address + page * PAGE_SIZE, USER if ring_3 else 0
            assert walk(memory, address) == (memory.m2p_mfn + page, user)
            assert walk(memory, address, memory.user_hole_entry) == (0, 0)
        for vcpu in (0, MAX_VCPUS - 1):
            slot = memory.areas_l1 * 512 + vcpu * 32
            memory.words[slot] = memory.zero_mfn << 12 | PRESENT
            for l4_entry in (memory.hole_entry, memory.user_hole_entry):
                address = memory.areas_address + vcpu * 32 * PAGE_SIZE
                assert walk(memory, address, l4_entry) == (memory.zero_mfn, 0)
        singles = [
            memory.hole_l3,
            memory.user_hole_l3,
            memory.zero_mfn,
            memory.reserved_gdt_mfn,
            memory.shared_info_mfn,
        ]
        taken = [
            *singles,
            *range(memory.m2p_mfn, memory.m2p_mfn + m2p_frames),
            *range(memory.areas_l1, memory.areas_l1 + MAX_VCPUS * 32 // 512),
            *range(memory.grant_mfn, memory.grant_mfn + GRANT_FRAMES),
        ]
        assert len(taken) == len(set(taken))
        assert 0 not in taken
        assert max(taken) < memory.first_mfn
        assert memory.nr_frames == memory.first_mfn + nr_pages
    finally:
        memory.close()


@settings(max_examples=50)
@given(paddr=st.integers(-PAGE_SIZE, 9 * PAGE_SIZE), size=st.integers(0, 2 * PAGE_SIZE))
def test_the_builder_stays_inside(paddr: int, size: int) -> None:
    memory = MachineMemory(8)
    try:
        space = BuildSpace(memory, memory.nr_pages)
        data = b"\xa5" * size
        if paddr >= 0 and paddr + size <= 8 * PAGE_SIZE:
            space.write(paddr, data)
            at = memory.first_mfn * PAGE_SIZE + paddr
            assert memory.bytes[at : at + size] == data
            assert bytes(memory.bytes[memory.first_mfn * PAGE_SIZE :]).count(0xA5) == size
        else:
            with pytest.raises(ValueError, match="outside the domain"):
                space.write(paddr, data)
            assert not any(memory.bytes[memory.first_mfn * PAGE_SIZE :])
    finally:
        memory.close()


def test_words_and_frames() -> None:
    memory = MachineMemory(8)
    space = BuildSpace(memory, memory.nr_pages)
    assert list(space.mfn_range(2, 3)) == [space.mfn(2), space.mfn(3), space.mfn(4)]
    space.write_words(PAGE_SIZE, [1, 2**64 - 1])
    at = space.mfn(1) * 512
    assert list(memory.words[at : at + 3]) == [1, 2**64 - 1, 0]
    with pytest.raises(ValueError, match="outside the domain"):
        space.write_words(8 * PAGE_SIZE - 8, [1, 2])
    memory.close()


def test_reserved_descriptors_are_flat_segments_of_ring_3() -> None:
    memory = MachineMemory(1)
    at = memory.reserved_gdt_mfn * 512
    descriptors = {0xE000 + 8 * n: word for n, word in enumerate(memory.words[at : at + 512]) if word}
    memory.close()
    for selector in (0xE023, 0xE02B, 0xE033):
        assert descriptors[selector & ~7] >> 45 & 3 == 3
    assert descriptors[0xE030] >> 53 & 1  # a 64-bit code segment
