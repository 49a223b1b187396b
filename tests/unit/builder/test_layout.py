from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.builder.errors import DomainBuildError, KernelImageError
from xenion.builder.kernel import KernelImage, load_kernel
from xenion.builder.layout import Layout, minimum_mib, minimum_pages, plan

if TYPE_CHECKING:
    from tests.unit.builder.conftest import TinyKernel, TinySegment

BASE = 0xFFFFFFFF80000000
P2M = 0x8000000000
Notes = Callable[..., dict[int, bytes]]


@pytest.fixture(scope="module", params=["packed", "modern"])
def image(request: pytest.FixtureRequest, tiny_kernel: "type[TinyKernel]", make_notes: Notes) -> KernelImage:
    numbers = {"init_p2m": P2M, "mod_start_pfn": 1} if request.param == "modern" else {}
    return load_kernel(tiny_kernel(notes=make_notes(**numbers)).elf())


def elements(image: KernelImage, layout: Layout) -> list[range]:
    """Everything placed, each as a range of pages, in the order of xen.h."""
    boot = [
        range(image.addresses.image_start // 4096, -(-image.addresses.image_end // 4096)),
        *([layout.ramdisk] if not image.notes.mod_start_pfn else []),
        *([layout.p2m.pages] if not layout.p2m_is_apart else []),
        *(range(pfn, pfn + 1) for pfn in (layout.start_info_pfn, layout.xenstore_pfn, layout.console_pfn)),
        layout.boot.tables,
        range(layout.stack_pfn, layout.stack_pfn + 1),
    ]
    after = [layout.ramdisk] if image.notes.mod_start_pfn else []
    return boot + after + ([layout.p2m.pages, layout.p2m.tables] if layout.p2m_is_apart else [])


@given(ramdisk=st.integers(0, 64 << 20), nr_pages=st.integers(1, 4 << 20))
def test_elements_follow_each_other_as_the_abi_says(image: KernelImage, ramdisk: int, nr_pages: int) -> None:
    layout = plan(image, ramdisk, nr_pages)
    placed = elements(image, layout)
    end_of_boot = len(placed) if not layout.p2m_is_apart else len(placed) - 3
    for low, high in pairwise(placed[:end_of_boot]):
        assert low.stop == high.start
    assert len(layout.ramdisk) == -(-ramdisk // 4096)
    assert len(layout.p2m.pages) == -(-nr_pages * 8 // 4096)
    mapped = layout.boot.pages
    assert mapped.start == 0
    assert (BASE + mapped.stop * 4096) % (4 << 20) == 0
    assert mapped.stop - layout.stack_pfn - 1 >= 128
    assert layout.nr_pages == max(mapped.stop, *(element.stop for element in placed))
    if layout.p2m_is_apart:
        assert layout.ramdisk.start == mapped.stop
        assert layout.p2m.vaddr == P2M
        assert layout.p2m.tables.start == layout.p2m.pages.stop == layout.ramdisk.stop + len(layout.p2m.pages)
        assert layout.p2m.tables.stop == layout.nr_pages


@given(ramdisk=st.integers(0, 256 << 20))
def test_the_minimum_is_enough_and_one_mib_less_is_not(image: KernelImage, ramdisk: int) -> None:
    mib = minimum_mib(image, ramdisk)
    assert minimum_pages(image, ramdisk, mib * 256) <= mib * 256
    assert minimum_pages(image, ramdisk, (mib - 1) * 256) > (mib - 1) * 256


def test_a_large_domain_needs_two_mib_a_gib_for_its_p2m(image: KernelImage) -> None:
    small, large = (minimum_pages(image, 0, gib << 18) for gib in (1, 17))
    assert 32 << 20 <= (large - small) * 4096 <= 40 << 20


def test_a_p2m_list_in_its_kernels_way(tiny_kernel: "type[TinyKernel]", make_notes: Notes) -> None:
    image = load_kernel(tiny_kernel(notes=make_notes(init_p2m=BASE - 0x200000)).elf())
    assert plan(image, 0, 1 << 18).p2m_is_apart
    with pytest.raises(DomainBuildError, match="less memory"):
        plan(image, 0, (1 << 18) + 1)


def test_a_p2m_list_in_the_hypervisors_hole(tiny_kernel: "type[TinyKernel]", make_notes: Notes) -> None:
    image = load_kernel(tiny_kernel(notes=make_notes(init_p2m=0xFFFF800000000000)).elf())
    with pytest.raises(KernelImageError, match="its p2m list at virtual 0xffff800000000000"):
        plan(image, 0, 1024)


def test_an_image_at_the_end_of_the_address_space(
    tiny_kernel: "type[TinyKernel]", tiny_segment: "type[TinySegment]", make_notes: Notes
) -> None:
    base = (1 << 64) - (4 << 20)
    notes = make_notes(virt_base=base, entry=base)
    fits = load_kernel(tiny_kernel(notes=notes, segments=[tiny_segment(0, b"a", memsz=0x1000)]).elf())
    assert plan(fits, 0, 1024).boot.pages == range(1024)
    wraps = load_kernel(tiny_kernel(notes=notes, segments=[tiny_segment(0, b"a", memsz=0x390000)]).elf())
    with pytest.raises(KernelImageError, match="initial mapping"):
        plan(wraps, 0, 1024)
