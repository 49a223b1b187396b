"""Assembles and links a test's machine code with the nucleus; results are kept for the session."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from tests.processor.kit.layout import REGIONS

NUCLEUS = Path(__file__).parent / "nucleus.S"


class AssemblyError(Exception):
    """A test's machine code does not assemble: a mistake in the test; carries the tool's own words."""


@dataclass(frozen=True)
class Image:
    """What is put where, and where the labels are."""

    sections: Mapping[int, bytes]
    labels: Mapping[str, int]


def missing() -> str | None:
    """Why nothing can be assembled here, or None."""
    return None if shutil.which("as") and shutil.which("ld") else "no assembler: install binutils"


def _script() -> str:
    lines = [f"{r.section} {r.address:#x} : {{ *({r.section}) }}" for r in REGIONS if r.section]
    return "SECTIONS {\n" + "\n".join(lines) + "\n/DISCARD/ : { *(.note*) }\n}\n"


def _do(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssemblyError(done.stderr)


@cache
def assemble(source: str) -> Image:
    """AssemblyError. Sections: .text .data .smc (kernel), .user .udata .usmc (applications)."""
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        (where / "a.S").write_text(source + "\n" + NUCLEUS.read_text())
        (where / "a.lds").write_text(_script())
        _do("as", "--64", "-o", f"{folder}{os.sep}a.o", f"{folder}{os.sep}a.S")
        _do(
            "ld",
            "--no-warn-rwx-segments",
            "-e",
            "0",
            "-T",
            f"{where / 'a.lds'}",
            "-o",
            f"{where / 'a'}",
            f"{where / 'a.o'}",
        )
        with (where / "a").open("rb") as file:
            return _read(ELFFile(file))


def _read(elf: ELFFile) -> Image:
    placed = {r.section for r in REGIONS if r.section}
    sections = {
        s["sh_addr"]: bytes(s.data()) for s in elf.iter_sections() if s.name in placed and s["sh_size"]
    }
    table = elf.get_section_by_name(".symtab")
    if not isinstance(table, SymbolTableSection):
        raise AssemblyError("no symbols came out")
    return Image(sections, {s.name: s["st_value"] for s in table.iter_symbols() if s.name})
