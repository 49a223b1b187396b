"""Several vCPUs: where one begins, what is refused without a trace, up, down, and who takes turns with whom."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.isolation import check_isolation
from tests.unit.core.profiles import examples
from tests.unit.core.scripted import Core
from tests.unit.core.world import (
    ALIEN,
    AREAS,
    ARGS,
    INTERRUPT,
    L3,
    L4,
    PAGE,
    SPARE,
    ZERO_PAGE,
    World,
)
from xenion.abi.errno import Errno
from xenion.abi.vcpu import RUNSTATE_offline

DOWN = 3
"""WAITS_DOWN of core.h."""
ES, CS, SS, DS, FS, GS = range(6)
SEGBASE_FS, SEGBASE_GS = 0, 2
KERNEL_CS, KERNEL_SS, DATA = 0xE030, 0xE028, 0x13
IOPL_1, VM, CARRY, DIRECTION = 0x1000, 0x20000, 1, 0x400
USER_TABLE, GDT_1, GDT_2, BAD_GDT = range(SPARE, SPARE + 4)
"""Frames of zeroes, but for the last one."""
SYSTEM_SEGMENT = 1 << 47 | 2 << 40
MOST_GDT, MOST_LDT = 14 * 512, 8192
GENERAL = list(range(100, 116))
AREA_PAGES = 32
HYPERVISOR = 0xFFFF800000000000

Start = dict[str, Any]
USER_START: Start = {"in_kernel": 0, "user_table": USER_TABLE}


@pytest.fixture
def two(core: Core) -> Iterator[World]:
    with World(core, nr_vcpus=2) as world:
        world.set_word(BAD_GDT, 7, SYSTEM_SEGMENT)
        yield world


def initialise(world: World, **fields: Any) -> int:
    """By vCPU 0, of vCPU 1: in its kernel at first, with the tables of vCPU 0."""
    start = world.ffi.new("struct vcpu_start *")
    usual: Start = {
        "kernel_table": L4,
        "in_kernel": 1,
        "general": GENERAL,
        "rip": 0x1234,
        "flags": IOPL_1 | VM | CARRY,
        "selectors": [0, KERNEL_CS, KERNEL_SS, DATA, 0, 0],
        "fs_base": 0x5000,
        "gs_base": 0x6000,
    }
    for name, value in (usual | fields).items():
        setattr(start, name, value)
    return int(world.lib.core_initialise_vcpu(world.state.vcpus + 1, world.vcpu, start))


def frames(world: World) -> list[tuple[tuple[int, int], int]]:
    return [(world.type_of(mfn), world.references(mfn)) for mfn in range(world.nr_frames)]


def loads(world: World) -> list[int]:
    return list(world.script.loaded_vcpus[0 : world.script.loads])


def window(world: World) -> list[int]:
    """The frames that the other vCPU's GDT shows, before the reserved descriptors."""
    first = AREA_PAGES
    return [world.word(AREAS, page) >> 12 & (1 << 40) - 1 for page in range(first, first + 14)]


# --- where it begins


@pytest.mark.parametrize("in_kernel", [True, False])
def test_its_tables(two: World, in_kernel: bool) -> None:
    """Each is held by a reference of its own, and the processor has the one of its mode."""
    before = frames(two)
    assert initialise(two, user_table=USER_TABLE, in_kernel=in_kernel) == 0
    vcpu = two.state.vcpus[1]
    assert (vcpu.cr3, vcpu.user_cr3) == (L4 * PAGE, USER_TABLE * PAGE)
    assert vcpu.loaded_cr3 == (L4 if in_kernel else USER_TABLE) * PAGE
    (kind, count), references = before[L4]
    assert frames(two)[L4] == ((kind, count + 1), references + 1)
    assert frames(two)[USER_TABLE] == ((4, 1), before[USER_TABLE][1] + 1)
    check_isolation(two)


@pytest.mark.parametrize("in_kernel", [True, False])
def test_its_registers(two: World, in_kernel: bool) -> None:
    """As the guest says, but that interrupts are on, and that its I/O privilege is no flag of the processor's."""
    assert initialise(two, user_table=USER_TABLE, in_kernel=in_kernel) == 0
    vcpu, script = two.state.vcpus[1], two.script
    assert list(vcpu.regs[0:16]) == GENERAL
    assert (vcpu.rip, vcpu.iopl, vcpu.kernel_mode) == (0x1234, IOPL_1, in_kernel)
    assert script.flags == CARRY | INTERRUPT | 2
    assert (script.bases[SEGBASE_FS], script.bases[SEGBASE_GS]) == (0x5000, 0x6000)
    assert list(script.selectors) == [0, KERNEL_CS | 3, KERNEL_SS | 3, DATA, 0, 0]
    assert (vcpu.cs, vcpu.ss) == (KERNEL_CS | 3, KERNEL_SS | 3)
    assert script.modes == 1


def test_its_descriptor_tables(two: World) -> None:
    assert initialise(two, gdt_frames=[GDT_1, GDT_2], gdt_entries=513, ldt_base=PAGE, ldt_entries=9) == 0
    vcpu = two.state.vcpus[1]
    assert (vcpu.gdt_entries, list(vcpu.gdt_frames[0:3])) == (513, [GDT_1, GDT_2, 0])
    assert (vcpu.ldt_base, vcpu.ldt_entries) == (PAGE, 9)
    assert window(two) == [GDT_1, GDT_2, *[ZERO_PAGE] * 12]
    assert [two.type_of(mfn) for mfn in (GDT_1, GDT_2)] == [(5, 1), (5, 1)]
    assert two.vcpu.gdt_entries == 0
    assert two.script.ldt_loads == 1


def test_it_begins_with_upcalls_masked_and_is_not_up_yet(two: World) -> None:
    vcpu = two.state.vcpus[1]
    two.memory[vcpu.info + 1] = 0
    assert initialise(two) == 0
    assert two.memory[vcpu.info + 1] == 1
    assert (vcpu.initialised, vcpu.online) == (1, 0)
    assert two.script.woken[1] == 0


@pytest.mark.parametrize(("start", "rc"), [({}, 0), ({"kernel_table": L3}, -Errno.EINVAL)])
def test_all_of_it_on_its_own_registers(two: World, start: Start, rc: int) -> None:
    """Whatever comes of it, the caller goes on with its own."""
    caller = list(two.vcpu.regs[0:16])
    assert initialise(two, **start) == rc
    assert loads(two) == [1, 0]
    assert two.script.misplaced == 0
    assert list(two.vcpu.regs[0:16]) == caller


def test_a_data_selector_that_would_fault_is_null(two: World) -> None:
    two.script.refused_selector = DATA
    assert initialise(two) == 0
    assert two.script.selectors[DS] == 0


# --- what is refused

REFUSED: dict[str, Start] = {
    "no kernel table": {"kernel_table": 0},
    "a kernel table that is no L4": {"kernel_table": L3},
    "a kernel table that is written to": {"kernel_table": ARGS},
    "a kernel table of the hypervisor's": {"kernel_table": ALIEN},
    "a kernel table beyond the memory": {"kernel_table": 2**40},
    "a user table that is no L4": {"user_table": L3},
    "a user table beyond the memory": {"user_table": 2**52 - 1},
    "an application without a table": {"in_kernel": 0},
    "a GDT in a table": {"gdt_frames": [GDT_1, L3], "gdt_entries": 1024},
    "a GDT of the hypervisor's": {"gdt_frames": [ALIEN], "gdt_entries": 1},
    "a GDT with a system segment": {"gdt_frames": [GDT_1, BAD_GDT], "gdt_entries": 513},
    "too long a GDT": {"gdt_frames": [GDT_1] * 16, "gdt_entries": MOST_GDT + 1},
    "an LDT between pages": {"ldt_base": 8, "ldt_entries": 1},
    "an LDT of the hypervisor's": {"ldt_base": HYPERVISOR, "ldt_entries": 1},
    "too long an LDT": {"ldt_base": 0, "ldt_entries": MOST_LDT + 1},
}


@pytest.mark.parametrize("start", REFUSED.values(), ids=REFUSED)
def test_refusals_leave_nothing_behind(two: World, start: Start) -> None:
    """After one, the vCPU can still be initialised."""
    before, complete = frames(two), {"user_table": USER_TABLE} if start.get("in_kernel", 1) else {}
    assert initialise(two, **complete | start) == -Errno.EINVAL
    assert_untouched(two, before)
    assert initialise(two, **USER_START) == 0


@pytest.mark.parametrize("selector", [KERNEL_CS | 3, KERNEL_SS | 3])
def test_a_code_or_stack_selector_that_would_fault(two: World, selector: int) -> None:
    """It is found last, with all tables in place: they go again."""
    before = frames(two)
    two.script.refused_selector = selector
    start: Start = {"user_table": USER_TABLE, "gdt_frames": [GDT_1], "gdt_entries": 3, "ldt_entries": 1}
    assert initialise(two, **start) == -Errno.EINVAL
    assert_untouched(two, before)
    two.script.refused_selector = 0
    assert initialise(two, **start) == 0


def assert_untouched(world: World, before: list[tuple[tuple[int, int], int]]) -> None:
    vcpu = world.state.vcpus[1]
    assert frames(world) == before
    assert (vcpu.initialised, vcpu.cr3, vcpu.user_cr3, vcpu.loaded_cr3) == (0, 0, 0, 0)
    assert (vcpu.gdt_entries, vcpu.ldt_entries, vcpu.ldt_base) == (0, 0, 0)
    assert window(world) == [ZERO_PAGE] * 14
    assert world.script.loaded == 0


numbers = st.one_of(st.sampled_from([0, L4, L3, ARGS, *range(SPARE, SPARE + 4)]), st.integers(0, 40))
starts = st.fixed_dictionaries(
    {
        "kernel_table": numbers,
        "user_table": numbers,
        "in_kernel": st.booleans(),
        "gdt_frames": st.lists(numbers, min_size=16, max_size=16),
        "gdt_entries": st.one_of(st.integers(0, 2000), st.integers(0, 1 << 16)),
        "ldt_entries": st.integers(0, 9000),
        "ldt_base": st.sampled_from([0, PAGE, 8, HYPERVISOR, 2**64 - PAGE]),
    }
)


def held_by(start: Start) -> Counter[int]:
    """The frames of which the vCPU has a reference and one of their type."""
    tables = [mfn for mfn in (start["kernel_table"], start["user_table"]) if mfn]
    return Counter(tables + start["gdt_frames"][: -(-start["gdt_entries"] // 512)])


@examples(300)
@given(attempts=st.lists(starts, min_size=1, max_size=6))
def test_any_start_is_taken_whole_or_not_at_all(core: Core, attempts: list[Start]) -> None:
    with World(core, nr_vcpus=2) as world:
        world.set_word(BAD_GDT, 7, SYSTEM_SEGMENT)
        before = frames(world)
        for start in attempts:
            rc = initialise(world, **start)
            check_isolation(world)
            if rc:
                assert rc == -Errno.EINVAL
                assert_untouched(world, before)
                continue
            held = held_by(start)
            for mfn, ((_, count), references) in enumerate(before):
                assert world.type_of(mfn)[1] == count + held[mfn], mfn
                assert world.references(mfn) == references + held[mfn], mfn
            break


# --- up and down


def test_up(two: World) -> None:
    """Its timer may be due, and it is to look."""
    armed = two.script.armed
    two.lib.core_vcpu_up(two.state.vcpus + 1)
    assert two.state.vcpus[1].online == 1
    assert (two.script.woken[1], two.script.armed) == (1, armed + 1)


def test_down(two: World) -> None:
    vcpu = two.vcpu
    vcpu.online = 1
    two.lib.core_vcpu_down(vcpu)
    assert (vcpu.online, vcpu.waiting, vcpu.runstate) == (0, DOWN, RUNSTATE_offline)
    assert two.script.waits == 0


def test_down_until_it_is_up(two: World) -> None:
    """It waits on its way to the guest, and neither an NMI nor an event ends that."""
    vcpu, script = two.vcpu, two.script
    script.nmi_at, script.up_at = 1, 2
    two.pending_upcall(masked=False)
    two.lib.core_vcpu_down(vcpu)
    two.lib.core_kicked(vcpu)
    assert (script.waits, vcpu.stopped, vcpu.waiting, vcpu.runstate) == (2, 0, 0, 0)
    assert list(script.wait_states[0:2]) == [RUNSTATE_offline] * 2
    assert two.faulted(2)


def test_a_stopped_domain_is_down_no_more(two: World) -> None:
    two.lib.core_vcpu_down(two.vcpu)
    two.lib.core_kicked(two.vcpu)
    assert two.vcpu.stopped
    assert two.script.waits == 1


# --- what each sees of itself


@pytest.mark.parametrize(
    ("leaf", "registers"),
    [
        (0, [0, 0, 0, 0]),
        (1, [0, 2 << 24, 0, 0]),
        (2, [0, 0, 0, 0]),
        (0xB, [0] * 4),
        (2**32 - 1, [0] * 4),
    ],
)
def test_the_apic_id_of_vcpu_1(two: World, leaf: int, registers: list[int]) -> None:
    values = two.ffi.new("uint32_t[4]")
    two.lib.core_own_cpuid(two.state.vcpus + 1, leaf, values)
    assert list(values) == registers


def test_the_apic_id_stands_beside_what_all_see(two: World) -> None:
    values = two.ffi.new("uint32_t[4]", [1, 0x00100800, 3, 4])
    two.lib.core_own_cpuid(two.state.vcpus + 1, 1, values)
    assert list(values) == [1, 0x02100800, 3, 4]


def test_the_extended_topology_has_it_where_there_is_one(two: World) -> None:
    values = two.ffi.new("uint32_t[4]", [1, 2, 0x100, 0])
    two.lib.core_own_cpuid(two.state.vcpus + 1, 0xB, values)
    assert list(values) == [1, 2, 0x100, 2]


@pytest.mark.parametrize("leaf", [1, 0xB])
def test_the_apic_id_of_vcpu_0(two: World, leaf: int) -> None:
    values = two.ffi.new("uint32_t[4]")
    two.lib.core_own_cpuid(two.vcpu, leaf, values)
    assert list(values) == [0] * 4
