"""Which pages a core has, in what order, and that only those with something in them are written."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.domain.dump.guest import new_file, small_domain
from tests.unit.vmm.kernel import PAGES
from xenion.abi.dumpcore import XC_CORE_INVALID_PFN
from xenion.domain.dump.output import DumpError, Output
from xenion.domain.dump.pages import OwnedPages, owned_pages, write_p2m, write_pages
from xenion.vmm.domain import Domain
from xenion.vmm.memory import PAGE_SIZE


@pytest.fixture
def domain() -> Iterator[Domain]:
    with small_domain() as domain:
        yield domain


def dumped(domain: Domain, path: Path, pages: OwnedPages) -> tuple[list[int], bytes]:
    with new_file(path) as fd:
        done = list(write_pages(Output(fd), 0, pages, domain.memory))
        os.ftruncate(fd, pages.size)
    return done, path.read_bytes()


def test_a_new_domain_is_in_order(domain: Domain) -> None:
    pages = owned_pages(domain)
    assert list(pages.pfns) == list(range(PAGES))
    assert list(pages.mfns) == [domain.space.mfn(pfn) for pfn in range(PAGES)]


def test_the_order_is_that_of_the_pfns_and_strays_are_last(domain: Domain) -> None:
    first = domain.memory.first_mfn
    words, m2p = domain.memory.words, domain.memory.m2p_mfn * 512
    words[m2p + first], words[m2p + first + 1] = 1, 0
    words[m2p + first + 2], words[m2p + first + 3] = (1 << 64) - 1, 1 << 45
    domain.state.frames[first + 4].count = 0
    pages = owned_pages(domain)
    assert list(pages.mfns) == [first + 1, first, *range(first + 5, first + PAGES), first + 3, first + 2]
    assert list(pages.pfns) == [0, 1, *range(5, PAGES), XC_CORE_INVALID_PFN, XC_CORE_INVALID_PFN]


def test_two_pages_of_one_number_are_both_kept(domain: Domain) -> None:
    first = domain.memory.first_mfn
    domain.memory.words[domain.memory.m2p_mfn * 512 + first + 9] = 3
    pages = owned_pages(domain)
    assert list(pages.pfns)[3:5] == [3, 3]
    assert list(pages.mfns)[3:5] == [first + 3, first + 9]


def test_p2m(domain: Domain, tmp_path: Path) -> None:
    pages = owned_pages(domain)
    with new_file(tmp_path / "core") as fd:
        write_p2m(Output(fd), 32, pages)
    entries = list(struct.iter_unpack("<QQ", (tmp_path / "core").read_bytes()[32:]))
    assert entries == list(zip(pages.pfns, pages.mfns, strict=True))


@settings(max_examples=40)
@given(filled=st.sets(st.integers(0, PAGES - 1)), order=st.permutations(range(PAGES)))
def test_any_pages_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, filled: set[int], order: list[int]
) -> None:
    with small_domain() as domain:
        for pfn in filled:
            domain.space.write(pfn * PAGE_SIZE + pfn, bytes([pfn + 1]))
        for position, pfn in enumerate(order):
            domain.set_pfn(domain.space.mfn(pfn), position)
        done, data = dumped(domain, tmp_path_factory.mktemp("dump") / "core", owned_pages(domain))
        memory = [bytes(domain.memory.page(domain.space.mfn(pfn))) for pfn in order]
    assert data == b"".join(memory)
    assert done[-1] == PAGES * PAGE_SIZE


def test_empty_memory_costs_nothing(domain: Domain, tmp_path: Path) -> None:
    """Neither in the file, nor on the host: a page that was never touched is not touched now."""
    domain.space.write(5 * PAGE_SIZE, b"something")
    domain.space.write(6 * PAGE_SIZE, bytes(PAGE_SIZE))  # touched, but zero
    before, writes = os.fstat(domain.memory.fd).st_blocks, []

    class Watched(Output):
        def write(self, offset: int, data: bytes | memoryview) -> None:
            writes.append((offset, len(data)))

    with new_file(tmp_path / "core") as fd:
        list(write_pages(Watched(fd), 0, owned_pages(domain), domain.memory))
    assert writes == [(5 * PAGE_SIZE, PAGE_SIZE)]
    assert os.fstat(domain.memory.fd).st_blocks == before


def test_memory_that_cannot_be_read(domain: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = owned_pages(domain)
    with new_file(tmp_path / "core") as fd:
        output = Output(fd)
        monkeypatch.setattr(domain.memory, "fd", -1)
        with pytest.raises(DumpError, match=r"memory cannot be read \(Bad file descriptor\)"):
            list(write_pages(output, 0, pages, domain.memory))
        monkeypatch.undo()
