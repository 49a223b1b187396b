from array import array
from collections.abc import Callable, Sequence
from ctypes import sizeof
from typing import TYPE_CHECKING

import pytest

from xenion.abi.xen import StartInfo
from xenion.builder.boot import BootState, build
from xenion.builder.errors import DomainBuildError
from xenion.builder.hypercall_page import hypercall_page
from xenion.builder.kernel import KernelImage, load_kernel
from xenion.builder.layout import plan

if TYPE_CHECKING:
    from tests.unit.builder.conftest import FakeSpace, TinyKernel

BASE = 0xFFFFFFFF80000000
P2M = 0x8000000000
NX, RW = 1 << 63, 1 << 1
RAMDISK = b"070701" + bytes(range(256)) * 33
Notes = Callable[..., dict[int, bytes]]


@pytest.fixture(scope="module")
def packed(tiny_kernel: "type[TinyKernel]") -> KernelImage:
    return load_kernel(tiny_kernel().elf())


@pytest.fixture(scope="module")
def modern(tiny_kernel: "type[TinyKernel]", make_notes: Notes) -> KernelImage:
    return load_kernel(tiny_kernel(notes=make_notes(init_p2m=P2M, mod_start_pfn=1)).elf())


@pytest.fixture(params=["packed", "modern"])
def image(request: pytest.FixtureRequest) -> KernelImage:
    image: KernelImage = request.getfixturevalue(request.param)
    return image


def start(image: KernelImage, space: "FakeSpace", ramdisk: bytes | None = RAMDISK) -> BootState:
    return build(image, space, ramdisk=ramdisk, cmdline="console=hvc0 quiet", console_port=7, xenstore_port=9)


def read(space: "FakeSpace", state: BootState, vaddr: int, size: int) -> bytes:
    """Read through the page tables, as the guest would."""
    out = b""
    while len(out) < size:
        entry = space.walk(state.cr3_pfn, vaddr + len(out))
        assert entry is not None
        offset = (vaddr + len(out)) % 4096
        paddr = space.pfn(entry >> 12 & (1 << 40) - 1) * 4096 + offset
        out += space.memory[paddr : paddr + min(4096 - offset, size - len(out))]
    return out


def start_info(space: "FakeSpace", state: BootState) -> StartInfo:
    return StartInfo.from_buffer_copy(read(space, state, state.start_info_vaddr, sizeof(StartInfo)))


def test_the_image_is_where_it_was_linked(image: KernelImage, fake_space: "type[FakeSpace]") -> None:
    space = fake_space(2048)
    state = start(image, space)
    assert read(space, state, BASE + 0x100000, 10240) == bytes(range(256)) * 40
    assert read(space, state, BASE + 0x104000, 0x9000) == (b"data" * 2000).ljust(0x9000, b"\0")
    assert (state.entry, state.virt_base) == (BASE + 0x100040, BASE)


def test_start_info_of_a_packed_kernel(packed: KernelImage, fake_space: "type[FakeSpace]") -> None:
    space = fake_space(2048)
    state = start(packed, space)
    info = start_info(space, state)
    assert info.magic == b"xen-3.0-x86_64"
    assert (info.nr_pages, info.shared_info, info.flags) == (2048, 0x1234000, 1 << 4)
    assert (info.store_mfn, info.store_evtchn) == (space.mfn_range(state.xenstore_pfn, 1)[0], 9)
    console = info.console.domU
    assert (console.mfn, console.evtchn) == (space.mfn_range(state.console_pfn, 1)[0], 7)
    assert info.pt_base == BASE + state.cr3_pfn * 4096
    assert info.nr_pt_frames == len(state.page_table_pfns)
    assert info.cmd_line == b"console=hvc0 quiet"
    assert (info.first_p2m_pfn, info.nr_p2m_frames, len(state.p2m_table_pfns)) == (0, 0, 0)
    assert read(space, state, info.mod_start, info.mod_len) == RAMDISK


def test_start_info_of_a_modern_kernel(modern: KernelImage, fake_space: "type[FakeSpace]") -> None:
    space = fake_space(2048)
    state = start(modern, space)
    info = start_info(space, state)
    assert info.flags == 1 << 4 | 1 << 3
    paddr = info.mod_start * 4096
    assert space.memory[paddr : paddr + info.mod_len] == RAMDISK
    assert space.walk(state.cr3_pfn, BASE + paddr) is None
    assert info.mfn_list == P2M
    assert info.first_p2m_pfn + info.nr_p2m_frames == state.p2m_table_pfns.stop
    assert info.first_p2m_pfn + 4 == state.p2m_table_pfns.start
    assert info.nr_pt_frames == len(state.page_table_pfns)


@pytest.mark.parametrize("ramdisk", [None, RAMDISK])
def test_the_p2m_list_is_whole(
    image: KernelImage, fake_space: "type[FakeSpace]", ramdisk: bytes | None
) -> None:
    space = fake_space(2048)
    state = start(image, space, ramdisk)
    info = start_info(space, state)
    listed = array("Q", read(space, state, info.mfn_list, 2048 * 8))
    assert listed == space.mfn_range(0, 2048)
    if ramdisk is None:
        assert (info.mod_start, info.mod_len, info.flags) == (0, 0, 1 << 4)


def test_every_mapping(image: KernelImage, fake_space: "type[FakeSpace]") -> None:
    """Page by page: code is executable, tables are read-only, all else is data; the end is the ABI's."""
    space = fake_space(2048)
    state = start(image, space)
    mapped = space.mapped(state.cr3_pfn)
    boot = {vaddr: entry for vaddr, entry in mapped.items() if vaddr >= BASE}
    assert sorted(boot) == [BASE + n * 4096 for n in range(len(boot))]
    assert len(boot) % 1024 == 0
    assert len(boot) * 4096 + BASE - state.stack_pointer >= 512 << 10
    for pfn in range(len(boot)):
        entry = boot[BASE + pfn * 4096]
        assert entry >> 12 & (1 << 40) - 1 == space.mfn_range(pfn, 1)[0]
        table, code = pfn in state.page_table_pfns, 0x100 <= pfn < 0x103
        expected = 0x21 | NX if table else 0x63 if code else 0x63 | NX
        assert entry & (0xFFF | NX) == expected, hex(pfn)
    rest = {vaddr: entry for vaddr, entry in mapped.items() if vaddr < BASE}
    expected_p2m = [P2M + n * 4096 for n in range(4)] if image.addresses.init_p2m else []
    assert sorted(rest) == expected_p2m
    assert all(entry & (0xFFF | NX) == 0x63 | NX for entry in rest.values())


def test_the_stack_and_the_rings_are_free_pages(image: KernelImage, fake_space: "type[FakeSpace]") -> None:
    space = fake_space(2048)
    state = start(image, space)
    assert state.stack_pointer % 4096 == 0
    for vaddr in (
        state.stack_pointer - 4096,
        BASE + state.console_pfn * 4096,
        BASE + state.xenstore_pfn * 4096,
    ):
        assert read(space, state, vaddr, 4096) == bytes(4096)
        entry = space.walk(state.cr3_pfn, vaddr)
        assert entry is not None
        assert entry & RW


def test_a_hypercall_page_is_filled_in(tiny_kernel: "type[TinyKernel]", make_notes: Notes) -> None:
    image = load_kernel(tiny_kernel(notes=make_notes(hypercall_page=BASE + 0x10C000)).elf())
    written: dict[int, bytes] = {}

    class Recorder:
        nr_pages = 2048
        shared_info_mfn = 1

        def mfn_range(self, start: int, count: int) -> "array[int]":
            return array("Q", range(start, start + count))

        def write(self, paddr: int, data: bytes | memoryview) -> None:
            written[paddr] = bytes(data)

        def write_words(self, paddr: int, words: "array[int] | Sequence[int]") -> None:
            written[paddr] = array("Q", words).tobytes()

    build(image, Recorder(), ramdisk=None, cmdline="", console_port=1, xenstore_port=2)
    assert written[0x10C000] == hypercall_page()


def test_the_smallest_domain_is_built_and_a_smaller_one_refused(
    image: KernelImage, fake_space: "type[FakeSpace]"
) -> None:
    least = next(n for n in range(1, 4096) if plan(image, len(RAMDISK), n).nr_pages <= n)
    start(image, fake_space(least))
    space = fake_space(least - 1)
    with pytest.raises(DomainBuildError, match=r"needs at least \d MiB"):
        start(image, space)
    assert not any(space.memory)


@pytest.mark.parametrize(
    ("ramdisk", "message"),
    [
        (b"", "empty or cut short, 0 bytes"),
        (b"0707", "empty or cut short, 4 bytes"),
        (bytes(5000), "empty or cut short, 5000"),
        (b"a" * (2048 * 4096 + 1), "more than the whole domain's 8388608"),
    ],
)
def test_useless_ramdisks(
    packed: KernelImage, fake_space: "type[FakeSpace]", ramdisk: bytes, message: str
) -> None:
    with pytest.raises(DomainBuildError, match=message):
        start(packed, fake_space(2048), ramdisk)


def test_command_lines(packed: KernelImage, fake_space: "type[FakeSpace]") -> None:
    space = fake_space(2048)
    longest = "ä" + "x" * 1021
    state = build(packed, space, ramdisk=None, cmdline=longest, console_port=1, xenstore_port=2)
    assert start_info(space, state).cmd_line == longest.encode()
    for refused in ("x" * 1024, "a\0b"):
        with pytest.raises(DomainBuildError, match="command line"):
            build(packed, fake_space(2048), ramdisk=None, cmdline=refused, console_port=1, xenstore_port=2)


def test_sixteen_gib_are_quick_because_nothing_loops_over_pages(modern: KernelImage) -> None:
    """The writes a large domain takes are a few, each long."""
    calls: list[tuple[int, int]] = []

    class Large:
        nr_pages = 16 << 18
        shared_info_mfn = 1
        frames = array("Q", bytes(8 << 18))

        def mfn_range(self, start: int, count: int) -> "array[int]":
            return self.frames[:count]

        def write(self, paddr: int, data: bytes | memoryview) -> None:
            calls.append((paddr, len(data)))

        def write_words(self, paddr: int, words: "array[int] | Sequence[int]") -> None:
            calls.append((paddr, len(words) * 8))

    state = build(modern, Large(), ramdisk=None, cmdline="", console_port=1, xenstore_port=2)
    assert len(state.p2m_table_pfns) == 2 + 16
    assert len(calls) < 64
    assert sum(size for _, size in calls) > 32 << 20
