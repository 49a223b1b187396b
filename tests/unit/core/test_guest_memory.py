"""The core's door to guest memory: page borders, holes, permissions at every level."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.profiles import examples
from tests.unit.core.scripted import Core
from tests.unit.core.world import (
    ARGS,
    ARGS2,
    CODE,
    HOLE,
    HOLE_PAGE,
    L1,
    L2,
    L3,
    L4,
    PAGE,
    RW,
    SPARE,
    SPARE_PAGE,
    STACK,
    A,
    D,
    P,
    World,
    entry,
    page_address,
)
from xenion.abi.arch_x86_64 import HYPERVISOR_VIRT_END, HYPERVISOR_VIRT_START
from xenion.abi.errno import Errno

READ_ONLY = SPARE
MAPPED = {
    0: (ARGS, True),
    1: (ARGS2, True),
    2: (STACK, True),
    3: (CODE, True),
    SPARE_PAGE: (READ_ONLY, False),
}
BUFFER = 6 * PAGE
FAULT = -Errno.EFAULT
ODD_ADDRESSES = (
    0,
    1 << 47,
    (1 << 47) - 1,
    HYPERVISOR_VIRT_START,
    HYPERVISOR_VIRT_START - 1,
    HYPERVISOR_VIRT_END - 1,
    HYPERVISOR_VIRT_END,
    2**64 - 1,
    2**63,
)

addresses = st.one_of(
    st.builds(lambda page, offset: page_address(page) + offset, st.integers(0, 5), st.integers(0, PAGE - 1)),
    st.builds(lambda page, edge: page_address(page) + edge, st.integers(0, 5), st.integers(-9, 9)),
    st.builds(lambda offset: page_address(SPARE_PAGE) + offset, st.integers(-20, PAGE)),
    st.sampled_from(ODD_ADDRESSES),
)
absurd = st.sampled_from([PAGE, 2 * PAGE, 2**63, 2**64 - 1, 1 << 47])
sizes = st.one_of(st.integers(0, 17), st.integers(0, 3 * PAGE), absurd)


def reachable(address: int, size: int, *, write: bool) -> int:
    """How many of the bytes can be reached, one after the other."""
    done = 0
    while done < size:
        page, offset = divmod(address + done - page_address(0), PAGE)
        if page not in MAPPED or (write and not MAPPED[page][1]):
            break
        done += PAGE - offset
    return min(done, size)


def allowed(address: int, size: int) -> bool:
    last = address + max(size - 1, 0)
    return last < 2**64 and (last < 1 << 47 or address >= HYPERVISOR_VIRT_END)


def content(world: World, address: int, size: int) -> bytes:
    out = b""
    while len(out) < size:
        page, offset = divmod(address + len(out) - page_address(0), PAGE)
        at = MAPPED[page][0] * PAGE + offset
        out += bytes(world.memory[at : at + min(PAGE - offset, size - len(out))])
    return out


@examples(150)
@given(address=addresses, size=sizes, seed=st.integers(1, 255))
def test_copy_in(core: Core, address: int, size: int, seed: int) -> None:
    with World(core, read_only=[READ_ONLY]) as world:
        for mfn, _ in MAPPED.values():
            world.memory[mfn * PAGE : (mfn + 1) * PAGE] = bytes((i * seed + mfn) & 255 for i in range(PAGE))
        buffer = bytearray(BUFFER)
        rc = world.lib.core_copy_from(world.vcpu, core.ffi.from_buffer(buffer), address, size)
        if allowed(address, size) and reachable(address, size, write=False) == size:
            assert rc == 0
            assert buffer[:size] == content(world, address, size)
            assert not any(buffer[size:])
        else:
            assert rc == FAULT


@examples(150)
@given(address=addresses, size=sizes)
def test_copy_out(core: Core, address: int, size: int) -> None:
    """What lies before the page that cannot be written is written; each byte is announced to the platform."""
    with World(core, read_only=[READ_ONLY]) as world:
        data = bytes(i % 251 + 1 for i in range(BUFFER))
        before = bytes(world.memory)
        rc = world.lib.core_copy_to(world.vcpu, address, core.ffi.from_buffer(data), size)
        done = reachable(address, size, write=True) if allowed(address, size) else 0
        assert rc == (0 if allowed(address, size) and done == size else FAULT)
        assert content(world, address, done) == data[:done]
        assert world.script.written == done
        changed = sum(a != b for a, b in zip(before, bytes(world.memory), strict=True))
        assert changed <= done + 16


def test_accessed_and_dirty_bits(world: World) -> None:
    world.set_word(L1, 0, entry(ARGS, P | RW))
    world.set_word(L1, 1, entry(ARGS2, P | RW))
    data = bytearray(8)
    assert world.lib.core_copy_from(world.vcpu, world.ffi.from_buffer(data), page_address(0), 8) == 0
    assert world.word(L1, 0) == entry(ARGS, P | RW | A)
    assert world.lib.core_copy_to(world.vcpu, page_address(1), world.ffi.from_buffer(data), 8) == 0
    assert world.word(L1, 1) == entry(ARGS2, P | RW | A | D)


@pytest.mark.parametrize("table", [L4, L3, L2])
def test_every_level_must_allow_writing(world: World, table: int) -> None:
    index = 511 if table == L4 else 0
    assert world.mmu_update((table << 12 | index << 3, world.word(table, index) & ~RW)) == 0
    data = bytearray(8)
    buffer = world.ffi.from_buffer(data)
    assert world.lib.core_copy_from(world.vcpu, buffer, page_address(0), 8) == 0
    assert world.lib.core_copy_to(world.vcpu, page_address(0), buffer, 8) == FAULT


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ((5, 5, 5, 511), L3),
        ((5, 5, 511, 0), L2),
        ((5, 511, 0, 0), L1),
        ((5, 5, 5, 256), HOLE),  # the hypervisor's own
    ],
)
def test_no_hypercall_writes_tables_through_a_linear_mapping(
    world: World, path: tuple[int, ...], target: int
) -> None:
    """A table that maps itself, read-only: its entries then stand where leaves do, and they allow writing."""
    assert world.mmu_update((L4 << 12 | 5 << 3, entry(L4, P | A))) == 0
    address = sum(index << 39 - 9 * level for level, index in enumerate(path))
    before = world.page(target)
    data = bytearray(b"\x67" * 8)
    rc = world.lib.core_copy_to(world.vcpu, address + 8 * 200, world.ffi.from_buffer(data), 8)
    assert world.page(target) == before
    assert rc == FAULT


def test_unmapped_in_user_mode_without_a_user_table(world: World) -> None:
    world.vcpu.kernel_mode = 0
    buffer = world.ffi.from_buffer(bytearray(8))
    assert world.lib.core_copy_from(world.vcpu, buffer, page_address(0), 8) == FAULT
    assert world.lib.core_copy_from(world.vcpu, buffer, page_address(HOLE_PAGE), 8) == FAULT
