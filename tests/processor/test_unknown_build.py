"""The software processor refuses a library whose inside it does not know, in a sentence that says what to do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from xenion.processor import software
from xenion.processor.software import SUPPORTED, library_path

SOURCE = Path(__file__).parent / "kit" / "fake_unicorn.c"
LAYOUT = Path(software.__file__).parent / "layout.c"
OPEN = """
import sys
sys.path.insert(0, sys.argv[1])
from xenion.processor import ProcessorError
from xenion.processor.choose import open_processor
try:
    open_processor("software")
    print("opened")
except ProcessorError as error:
    print(type(error).__name__, error)
"""


def opened(package: Path, fake: str = "") -> str:
    """What comes of opening the processor in a process that finds `package` as its Unicorn."""
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(package.parent)],
        env=os.environ | {"FAKE": fake, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def refusal(why: str) -> str:
    return (
        f"UnknownBuildError the software processor cannot use this build of Unicorn: {why}; "
        f"install the published wheel (pip install --force-reinstall unicorn=={SUPPORTED})"
    )


def make_package(folder: Path) -> Path:
    package = folder / "unicorn"
    (package / "lib").mkdir(parents=True)
    (package / "__init__.py").touch()
    return package


def stubs(without: str) -> str:
    """An empty function for each symbol that the processor looks up, for those that the fake does not have itself."""
    names = re.findall(r'\{"(\w+)", \(void', LAYOUT.read_text())
    assert names
    return "\n".join(f"__attribute__((weak)) void {name}(void) {{}}" for name in names if name != without)


def compile_fake(package: Path, *flags: str, without: str = "") -> None:
    compiler = shutil.which(os.environ.get("CC", "gcc"))
    if compiler is None:
        pytest.skip("no C compiler to build a library with: install gcc, or name one in CC")
    (package / "stubs.c").write_text(stubs(without))
    sources = [str(package / "stubs.c"), str(SOURCE)]
    subprocess.run(
        [
            compiler,
            "-shared",
            "-fPIC",
            "-w",
            *flags,
            *sources,
            "-o",
            str(package / "lib" / "libunicorn.so.2"),
        ],
        check=True,
    )


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that passes all checks unless FAKE says otherwise."""
    package = make_package(tmp_path_factory.mktemp("fake"))
    compile_fake(package)
    return package


def test_the_fake_itself_passes(fake: Path) -> None:
    """So each test below fails for its own reason."""
    assert opened(fake) == "opened"


@pytest.mark.parametrize(
    ("differs", "why"),
    [
        ("no instance", "it opens no instance"),
        ("no memory", "memory cannot be mapped"),
        ("no hooks", "interrupts cannot be hooked"),
        ("registers", "the processor state cannot be found"),
        ("flag set", "the processor state cannot be found"),
        ("no fault", "a page fault does not arrive as one"),
        ("vector", "a page fault does not arrive as one"),
        ("error code", "error code or CR2 are not where they should be"),
        ("cr2", "error code or CR2 are not where they should be"),
        ("rip", "the instruction pointer is not where it should be"),
        ("no kick", "a kick does not arrive"),
        ("int flag", "a software interrupt does not arrive as one"),
        ("next rip", "a software interrupt does not arrive as one"),
        ("carry", "the flags are not where they should be"),
        ("direction", "the flags are not where they should be"),
        ("tsc", "the TSC's offset is not where it should be"),
        ("no jump", "code that jumps does not arrive"),
        ("label", "its translator emits other operations"),
        ("load", "its translator emits other operations"),
        ("no block", "blocks of translated code are not what they should be"),
        ("block", "blocks of translated code are not what they should be"),
        ("code", "blocks of translated code are not what they should be"),
        ("gdt", "the descriptor tables' registers are not where they should be"),
        ("ldt", "the descriptor tables' registers are not where they should be"),
        ("segments", "the segments are not where they should be"),
        ("mode flags", "the mode flags are not where they should be"),
    ],
)
def test_another_layout(fake: Path, differs: str, why: str) -> None:
    assert opened(fake, differs) == refusal(why)


@pytest.mark.parametrize(
    "symbol", ["tlb_flush_x86_64", "tb_invalidate_phys_range_x86_64", "raise_exception_err_ra_x86_64"]
)
def test_a_missing_symbol(tmp_path: Path, symbol: str) -> None:
    package = make_package(tmp_path)
    compile_fake(package, without=symbol)
    assert opened(package) == refusal(f"it has no symbol {symbol}")


def test_another_place_of_the_flag(tmp_path: Path) -> None:
    package = make_package(tmp_path)
    compile_fake(package, "-DFLAG_AT=0xf3")
    assert opened(package) == refusal("its exit-request flag is not where it should be")


def test_no_library(tmp_path: Path) -> None:
    package = make_package(tmp_path)
    (package / "lib").rmdir()
    assert opened(package) == refusal("its library is not installed")


def test_a_file_that_is_no_library(tmp_path: Path) -> None:
    package = make_package(tmp_path)
    (package / "lib" / "libunicorn.so.2").write_bytes(b"not a library at all")
    said = opened(package)
    assert said.startswith("UnknownBuildError the software processor cannot use this build of Unicorn: ")
    assert said.endswith(f"install the published wheel (pip install --force-reinstall unicorn=={SUPPORTED})")


def test_the_real_library_with_its_flag_elsewhere(tmp_path: Path) -> None:
    """One byte of the published build is changed: where its code looks for the exit-request flag."""
    package = make_package(tmp_path)
    image = bytearray(library_path().read_bytes())
    with library_path().open("rb") as file:
        elf = ELFFile(file)
        table = elf.get_section_by_name(".dynsym")
        assert isinstance(table, SymbolTableSection)
        symbols = table.get_symbol_by_name("check_exit_request_x86_64")
        assert symbols
        (offset,) = elf.address_offsets(symbols[0]["st_value"])
    at = image.index(b"\xf2\x07\x00\x00\x00", offset)
    image[at] += 1
    (package / "lib" / "libunicorn.so.2").write_bytes(image)
    assert opened(package) == refusal("its exit-request flag is not where it should be")
