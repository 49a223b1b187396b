"""What isolation rests on, checked by the core's own words alone: frame table and memory."""

from tests.unit.core.model import ADDRESS, HOLE_SLOT, XEN_SLOTS, is_table
from tests.unit.core.world import RW, WRITABLE_TYPE, P, World


def check_isolation(world: World) -> None:
    for mfn in range(1, world.nr_frames):
        kind, _ = world.type_of(mfn)
        if is_table(kind):
            _check_table(world, mfn, kind)
    for cr3 in (world.vcpu.cr3, world.vcpu.user_cr3):
        assert not cr3 or world.type_of(cr3 >> 12)[0] == 4


def _check_table(world: World, mfn: int, kind: int) -> None:
    for index, value in enumerate(world.page(mfn)):
        if kind == 4 and index == HOLE_SLOT:
            assert value == world.state.hole_entry
        elif kind == 4 and index in XEN_SLOTS:
            assert not value & P
        elif value & P:
            _check_entry(world, mfn, kind, value)


def _check_entry(world: World, table: int, level: int, value: int) -> None:
    target = (value & ADDRESS) >> 12
    assert target < world.nr_frames
    assert world.references(target), f"an entry of {table} leads to a frame that is not the domain's"
    kind, _ = world.type_of(target)
    if level == 1:
        assert not value & RW or kind == WRITABLE_TYPE, (
            f"a table or descriptors may be written through {table}"
        )
    else:
        linear = kind == level and not value & RW
        assert kind == level - 1 or linear, f"an entry of {table} leads to the wrong level"
