"""A domain's core file: dumped, and read back by pyelftools and by gdb as a user would."""

import os
import re
import shutil
import struct
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.domain.dump.guest import new_file, small_kernel
from tests.unit.vmm.kernel import FIRST_FREE, L1, L4, PAGES, Kernel
from xenion.abi.arch_x86_64 import VcpuGuestContext
from xenion.abi.elf import ElfPrstatus
from xenion.core import lib
from xenion.domain.dump import ranges
from xenion.domain.dumpcore import Dump, DumpCancelled, DumpError, dump_core
from xenion.vmm.domain import Domain
from xenion.vmm.memory import PAGE_SIZE

RIP, RSP = Kernel.address(10, 0x123), Kernel.address(11, 0x800)
TEXT = b"sixteen letters."


def go_on(done: int, total: int) -> bool:
    return True


def dump(domain: Domain, path: Path) -> Dump:
    with new_file(path) as fd:
        return dump_core(domain, fd, go_on)


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    with small_kernel() as kernel:
        kernel.vcpu.state.rip = RIP
        kernel.vcpu.state.regs[0], kernel.vcpu.state.regs[4] = 0x1122334455667788, RSP
        for pfn in range(FIRST_FREE, FIRST_FREE + 20):
            kernel.put(bytes([pfn]) * 100, pfn, 64)
        kernel.put(TEXT, 12)
        yield kernel


@pytest.fixture
def core(kernel: Kernel, tmp_path: Path) -> Iterator[tuple[Kernel, Any]]:
    dump(kernel.domain, tmp_path / "core")
    with (tmp_path / "core").open("rb") as file:
        yield kernel, ELFFile(file)


# --- what Xen's tools read


def test_what_it_is(core: tuple[Kernel, Any]) -> None:
    _, elf = core
    assert (elf["e_type"], elf["e_machine"], elf.elfclass, elf.little_endian) == (
        "ET_CORE",
        "EM_X86_64",
        64,
        True,
    )
    assert [section.name for section in elf.iter_sections()] == [
        "",
        ".shstrtab",
        ".note.Xen",
        ".xen_prstatus",
        ".xen_shared_info",
        ".xen_pages",
        ".xen_p2m",
    ]


def test_crash_does_not_take_it_for_a_bare_machines(core: tuple[Kernel, Any]) -> None:
    """It looks for program headers in the first pages, and for sections if there are none."""
    _, elf = core
    assert elf["e_phoff"] > elf.get_section_by_name(".xen_pages")["sh_offset"]
    assert elf["e_shoff"] == 64


def test_notes(core: tuple[Kernel, Any]) -> None:
    _, elf = core
    notes = list(elf.get_section_by_name(".note.Xen").iter_notes())
    assert [note["n_name"] for note in notes] == ["Xen"] * 4
    assert [note["n_descsz"] for note in notes] == [0, 32, 1280, 8]
    header = struct.unpack("<4Q", elf.get_section_by_name(".note.Xen").data()[32:64])
    assert header == (0xF00FEBED, 1, PAGES, PAGE_SIZE)


def test_pages_and_p2m_are_the_domains(core: tuple[Kernel, Any]) -> None:
    kernel, elf = core
    p2m = list(struct.iter_unpack("<QQ", elf.get_section_by_name(".xen_p2m").data()))
    pages = elf.get_section_by_name(".xen_pages")
    assert p2m == [(pfn, kernel.mfn(pfn)) for pfn in range(PAGES)]
    assert pages["sh_offset"] % PAGE_SIZE == 0
    assert pages.data() == b"".join(bytes(kernel.domain.memory.page(mfn)) for _, mfn in p2m)


def test_registers_and_shared_info(core: tuple[Kernel, Any]) -> None:
    kernel, elf = core
    context = VcpuGuestContext.from_buffer_copy(elf.get_section_by_name(".xen_prstatus").data())
    assert (context.user_regs.rip, context.user_regs.rsp) == (RIP, RSP)
    assert context.ctrlreg[3] == kernel.mfn(L4) * PAGE_SIZE
    memory = kernel.domain.memory
    shared_info = bytes(memory.page(memory.shared_info_mfn))
    assert elf.get_section_by_name(".xen_shared_info").data() == shared_info


# --- what gdb reads


def segments(elf: Any, kind: str) -> list[Any]:
    return [segment for segment in elf.iter_segments() if segment["p_type"] == kind]


def test_kernel_memory_is_found_by_address(core: tuple[Kernel, Any]) -> None:
    kernel, elf = core
    (load,) = segments(elf, "PT_LOAD")
    assert load["p_vaddr"] == kernel.address(FIRST_FREE)
    assert load["p_filesz"] == load["p_memsz"] == (PAGES - FIRST_FREE) * PAGE_SIZE
    assert load.data()[(12 - FIRST_FREE) * PAGE_SIZE :].startswith(TEXT)
    assert load["p_offset"] == elf.get_section_by_name(".xen_pages")["sh_offset"] + FIRST_FREE * PAGE_SIZE


def test_the_vcpu_is_a_thread(core: tuple[Kernel, Any]) -> None:
    _, elf = core
    (notes,) = segments(elf, "PT_NOTE")
    thread = ElfPrstatus.from_buffer_copy(notes.data(), 12 + 8)
    assert (thread.pr_reg.rip, thread.pr_reg.rsp, thread.pr_reg.rax) == (RIP, RSP, 0x1122334455667788)


def test_shared_info_is_seen_where_the_kernel_maps_it(kernel: Kernel, tmp_path: Path) -> None:
    memory = kernel.domain.memory
    memory.page(memory.shared_info_mfn)[0:4] = b"info"
    memory.words[kernel.mfn(L1) * 512 + 100] = memory.shared_info_mfn << 12 | 1
    dump(kernel.domain, tmp_path / "core")
    with (tmp_path / "core").open("rb") as file:
        loads = {load["p_vaddr"]: load.data() for load in segments(ELFFile(file), "PT_LOAD")}
    assert loads[kernel.address(100)] == bytes(memory.page(memory.shared_info_mfn))


@pytest.mark.skipif(not shutil.which("gdb"), reason="gdb is not installed")
def test_gdb_opens_it(kernel: Kernel, tmp_path: Path) -> None:
    dump(kernel.domain, tmp_path / "core")
    address = kernel.address(12)
    questions = ("info threads", "p/x $rip", "p/x $rsp", "p/x $rax", f"x/2gx {address:#x}", "x/1bx $rsp")
    commands = [word for question in questions for word in ("-ex", question)]
    done = subprocess.run(
        ["gdb", "-nx", "-batch", *commands, "-c", tmp_path / "core"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert re.findall(r"= (0x\w+)", done.stdout) == [hex(RIP), hex(RSP), "0x1122334455667788"]
    first, second = struct.unpack("<2Q", TEXT)
    assert f"{address:#x}:\t{first:#018x}\t{second:#018x}" in done.stdout
    assert f"{RSP:#x}:\t0x00" in done.stdout
    assert "warning" not in done.stderr


# --- what the caller learns


def test_result_and_sparse_file(kernel: Kernel, tmp_path: Path) -> None:
    path = tmp_path / "core"
    result = dump(kernel.domain, path)
    assert result == Dump(pages=PAGES, size=path.stat().st_size, ranges=1, repeats=0, remarks=[])
    assert path.stat().st_blocks * 512 < path.stat().st_size - 30 * PAGE_SIZE


def test_what_gdb_does_not_see_is_said(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "MAX_RANGES", 1)
    kernel.domain.memory.words[kernel.mfn(L1) * 512 + 30] = 0
    result = dump(kernel.domain, tmp_path / "small")
    assert result.ranges == 1
    assert result.remarks == [
        "gdb does not see 26 pages of the guest kernel's memory: they are scattered over 1 ranges more than "
        "a core file has room for"
    ]
    monkeypatch.setattr(ranges, "WORK", 1024)
    monkeypatch.setattr(ranges, "WORK_PER_FRAME", 0)
    (remark,) = dump(kernel.domain, tmp_path / "short").remarks
    assert remark.startswith("gdb does not see all of the guest kernel's memory")


def test_progress_comes_to_its_end(kernel: Kernel, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> bool:
        calls.append((done, total))
        return True

    with new_file(tmp_path / "core") as fd:
        dump_core(kernel.domain, fd, progress)
    total = PAGES * PAGE_SIZE
    assert calls == [(0, total), (total, total)]


def test_cancelled(kernel: Kernel, tmp_path: Path) -> None:
    with new_file(tmp_path / "early") as fd, pytest.raises(DumpCancelled):
        dump_core(kernel.domain, fd, lambda done, total: False)
    assert (tmp_path / "early").stat().st_size == 0
    with new_file(tmp_path / "late") as fd, pytest.raises(DumpCancelled):
        dump_core(kernel.domain, fd, lambda done, total: not done)
    assert not (tmp_path / "late").read_bytes().startswith(b"\x7fELF")


def test_a_full_disk(kernel: Kernel) -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(DumpError, match="No space left on device"):
        dump_core(kernel.domain, fd, go_on)
    os.close(fd)


def test_a_domain_that_was_never_booted(tmp_path: Path, kernel: Kernel) -> None:
    kernel.vcpu.state.cr3 = 0
    assert dump(kernel.domain, tmp_path / "core").ranges == 0


@settings(max_examples=40)
@given(
    garbage=st.lists(
        st.tuples(st.integers(0, PAGES * 512 - 1), st.integers(0, (1 << 64) - 1)), min_size=1, max_size=200
    ),
    root=st.integers(0, (1 << 64) - 1),
    pfns=st.lists(st.integers(0, (1 << 64) - 1), max_size=PAGES),
)
def test_any_guest_can_be_dumped(
    tmp_path_factory: pytest.TempPathFactory, garbage: list[tuple[int, int]], root: int, pfns: list[int]
) -> None:
    path = tmp_path_factory.mktemp("dump") / "core"
    with small_kernel() as kernel:
        memory = kernel.domain.memory
        for word, value in garbage:
            memory.words[memory.first_mfn * 512 + word] = value
        for page, pfn in enumerate(pfns):
            memory.words[memory.m2p_mfn * 512 + memory.first_mfn + page] = pfn
        if root % 2:
            kernel.vcpu.state.cr3 = root
        result = dump(kernel.domain, path)
        owned = range(memory.first_mfn, memory.nr_frames)
        assert all(lib.core_owns_frame(kernel.domain.state, mfn) for mfn in owned)
        expected = {mfn: bytes(memory.page(mfn)) for mfn in owned}
    with path.open("rb") as file:
        elf: Any = ELFFile(file)
        p2m = list(struct.iter_unpack("<QQ", elf.get_section_by_name(".xen_p2m").data()))
        data = elf.get_section_by_name(".xen_pages").data()
        loads = segments(elf, "PT_LOAD")
    assert [pfn for pfn, _ in p2m] == sorted(pfn for pfn, _ in p2m)
    assert {mfn: data[i * PAGE_SIZE : (i + 1) * PAGE_SIZE] for i, (_, mfn) in enumerate(p2m)} == expected
    assert len(loads) == result.ranges
    assert all(s["p_offset"] >= 0x2000 and s["p_offset"] + s["p_filesz"] <= result.size for s in loads)


# --- where it runs


ARMED = """
import os, sys
from tests.unit.domain.dump.guest import new_file, small_kernel
from pathlib import Path
from xenion.domain import sandbox
from xenion.domain.dumpcore import DumpError, dump_core
with small_kernel() as kernel, new_file(Path(sys.argv[1])) as fd:
    full = os.open("/dev/full", os.O_WRONLY)
    sandbox.arm()
    try:
        dump_core(kernel.domain, full, lambda done, total: True)
    except DumpError as error:
        print(error)
    print(dump_core(kernel.domain, fd, lambda done, total: True).pages, flush=True)
"""


def test_in_a_domain_process_that_has_dropped_its_rights(tmp_path: Path) -> None:
    pytest.importorskip("pyseccomp", exc_type=ImportError)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(ARMED), tmp_path / "core"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr
    assert "No space left on device" in done.stdout
    assert done.stdout.endswith(f"{PAGES}\n")
    with (tmp_path / "core").open("rb") as file:
        assert ELFFile(file).num_segments() == 2
