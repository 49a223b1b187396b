import bz2
import gzip
import io
import lzma
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import lz4.block
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from lzallright import LZOCompressor

from xenion.builder import payload
from xenion.builder.errors import KernelImageError
from xenion.builder.payload import extract_elf

ELF = b"\x7fELF" + b"tiny kernel " * 60000


def lz4_legacy(data: bytes) -> bytes:
    out = b"\x02\x21\x4c\x18"
    for start in range(0, len(data), 8 << 20):
        block = lz4.block.compress(data[start : start + (8 << 20)], store_size=False)
        out += struct.pack("<I", len(block)) + block
    return out


def lzop(data: bytes, flags: int = 0x1, version: int = 0x1040) -> bytes:
    out = b"\x89LZO\x00\r\n\x1a\n" + struct.pack(">HHHB", version, 0x20A0, 0x0940, 3)
    out += (b"\x09" if version >= 0x0940 else b"") + struct.pack(">I", flags)
    out += bytes(4 if flags & 0x800 else 0) + bytes(12 if version >= 0x0940 else 8)
    out += b"\x07vmlinux" + bytes(4)
    for start in range(0, len(data), 256 << 10):
        plain = data[start : start + (256 << 10)]
        packed = LZOCompressor().compress(plain)
        packed = packed if len(packed) < len(plain) else plain
        out += struct.pack(">II", len(plain), len(packed))
        out += struct.pack(">I", zlib.adler32(plain)) if flags & 0x1 else b""
        out += bytes(4) if flags & 0x2 and len(packed) < len(plain) else b""
        out += packed
    return out + bytes(4)


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lambda data: lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_CRC32),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "lzop": lzop,
    "lz4": lz4_legacy,
    "zstd": zstandard.ZstdCompressor(write_content_size=False).compress,
}


def compressed(name: str, data: bytes = ELF) -> bytes:
    """A payload as Linux stores it: with the decompressed size after all but gzip's."""
    trailer = b"" if name == "gzip" else struct.pack("<I", len(data))
    return COMPRESSORS[name](data) + trailer


@pytest.mark.parametrize("name", COMPRESSORS)
def test_a_bzimage_yields_its_elf(name: str, make_bzimage: Callable[..., bytes]) -> None:
    assert extract_elf(make_bzimage(compressed(name))) == ELF


def test_what_reading_takes_can_be_loaded_before(tmp_path: Path) -> None:
    for name, compress in COMPRESSORS.items():
        (tmp_path / name).write_bytes(compress(ELF))
    code = """if True:
        import pathlib, sys
        from xenion.builder import KernelImageError, load_kernel, load_readers
        load_readers()
        del sys.meta_path[:], sys.path_hooks[:]
        for path in map(pathlib.Path, sys.argv[1:]):
            try:
                load_kernel(path.read_bytes())
            except KernelImageError as error:
                print(path.name, error)
    """
    said = subprocess.run(
        [sys.executable, "-c", code, *tmp_path.iterdir()], capture_output=True, text=True, check=True
    ).stdout
    assert {line.partition(" ")[0] for line in said.splitlines()} == set(COMPRESSORS)
    assert said.count("ELF") == len(COMPRESSORS)


@pytest.mark.parametrize("name", COMPRESSORS)
def test_a_file_compressed_as_a_whole_yields_its_elf(name: str) -> None:
    assert extract_elf(COMPRESSORS[name](ELF)) == ELF


def test_an_elf_and_a_stored_payload_and_a_packed_bzimage_are_accepted(
    make_bzimage: Callable[..., bytes],
) -> None:
    assert extract_elf(ELF) == ELF
    assert extract_elf(make_bzimage(ELF)) == ELF
    assert extract_elf(gzip.compress(make_bzimage(compressed("xz")))) == ELF


def test_zstd_with_its_content_size_and_an_odd_setup_size(make_bzimage: Callable[..., bytes]) -> None:
    data = zstandard.ZstdCompressor().compress(ELF) + struct.pack("<I", len(ELF))
    assert extract_elf(make_bzimage(data, setup_sects=27)) == ELF


def test_a_setup_size_of_zero_means_four(make_bzimage: Callable[..., bytes]) -> None:
    image = bytearray(make_bzimage(compressed("gzip")))
    image[0x1F1] = 0
    assert extract_elf(bytes(image)) == ELF


@pytest.mark.parametrize(("flags", "version"), [(0, 0x1040), (0x3, 0x1040), (0x801, 0x1040), (0x1, 0x0900)])
def test_lzop_headers(flags: int, version: int, make_bzimage: Callable[..., bytes]) -> None:
    stored = b"\x7fELF" + bytes(range(256))
    for data in (ELF, stored):
        image = lzop(data, flags, version) + struct.pack("<I", len(data))
        assert extract_elf(make_bzimage(image)) == data


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("lz4", ["-l", "-9", "-c"]),
        ("lzop", ["-9", "-c"]),
        ("xz", ["--check=crc32", "--x86", "--lzma2=dict=32MiB", "-c"]),
        ("xz", ["--format=lzma", "-9", "-c"]),
        ("zstd", ["-q", "-22", "--ultra", "-c"]),
    ],
)
def test_what_the_tools_that_linux_is_built_with_write(
    tool: str, arguments: list[str], make_bzimage: Callable[..., bytes]
) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    elf = ELF * 15  # more than one block of lz4
    stream = subprocess.run([tool, *arguments], input=elf, capture_output=True, check=True).stdout
    assert extract_elf(make_bzimage(stream + struct.pack("<I", len(elf)))) == elf


@pytest.mark.parametrize("name", COMPRESSORS)
@pytest.mark.parametrize("kept", [0.99, 0.5, 0.0])
def test_truncation_is_refused(name: str, kept: float, make_bzimage: Callable[..., bytes]) -> None:
    stream = COMPRESSORS[name](ELF)
    cut = stream[: int(len(stream) * kept)]
    with pytest.raises(KernelImageError):
        extract_elf(cut)
    with pytest.raises(KernelImageError):
        extract_elf(make_bzimage(cut + struct.pack("<I", len(ELF))))


@pytest.mark.parametrize("name", [name for name in COMPRESSORS if name != "gzip"])
@pytest.mark.parametrize("wrong", [-1, 1])
def test_a_size_that_differs_is_refused(name: str, wrong: int, make_bzimage: Callable[..., bytes]) -> None:
    payload_ = COMPRESSORS[name](ELF) + struct.pack("<I", len(ELF) + wrong)
    with pytest.raises(KernelImageError, match=rf"{name} data"):
        extract_elf(make_bzimage(payload_))


@pytest.mark.parametrize("name", COMPRESSORS)
def test_a_bomb_is_refused(
    name: str, make_bzimage: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = compressed(name)
    monkeypatch.setattr(payload, "MAX_KERNEL_SIZE", len(ELF) - 1)
    with pytest.raises(KernelImageError):
        extract_elf(make_bzimage(stream))
    with pytest.raises(KernelImageError):
        extract_elf(COMPRESSORS[name](ELF))


def test_a_claimed_size_above_the_limit_is_refused_unread(make_bzimage: Callable[..., bytes]) -> None:
    with pytest.raises(KernelImageError, match="claims to be 4294967295 bytes"):
        extract_elf(make_bzimage(compressed("xz")[:-4] + b"\xff" * 4))


def test_an_lz4_block_after_a_short_one_is_refused() -> None:
    stream = lz4_legacy(ELF)
    with pytest.raises(KernelImageError, match="follows its last"):
        extract_elf(stream + stream[4:])


def test_an_lzop_checksum_is_checked() -> None:
    stream = bytearray(lzop(b"\x7fELF" + bytes(range(256))))
    stream[-10] ^= 1
    with pytest.raises(KernelImageError, match="checksum"):
        extract_elf(bytes(stream))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "starts with nothing"),
        (b"MZ" + bytes(5000), "no bzImage, no ELF and no known compression"),
        (gzip.compress(b"a text", mtime=0), "holds no ELF"),
    ],
)
def test_other_files_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(KernelImageError, match=message):
        extract_elf(data)


def test_a_truncated_or_too_old_bzimage_is_refused(make_bzimage: Callable[..., bytes]) -> None:
    image = make_bzimage(compressed("gzip"))
    with pytest.raises(KernelImageError, match="truncated"):
        extract_elf(image[:-100])
    with pytest.raises(KernelImageError, match="within its setup header"):
        extract_elf(image[:0x240])
    with pytest.raises(KernelImageError, match=r"protocol 2\.07"):
        extract_elf(make_bzimage(compressed("gzip"), version=0x0207))
    with pytest.raises(KernelImageError, match="only 3 bytes"):
        extract_elf(make_bzimage(b"abc"))


SMALL = b"\x7fELF" + bytes(range(256)) * 4


@settings(max_examples=150)
@given(
    name=st.sampled_from(sorted(COMPRESSORS)),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    kept=st.floats(0.3, 1),
    outer=st.booleans(),
)
def test_mutations_raise_nothing_else(
    make_bzimage: Callable[..., bytes],
    name: str,
    edits: list[tuple[float, int]],
    kept: float,
    outer: bool,
) -> None:
    stream = bytearray(compressed(name, SMALL))
    for where, value in edits:
        stream[int(where * len(stream))] = value
    data = bytes(stream[: int(kept * len(stream))])
    with suppress(KernelImageError):
        extract_elf(data if outer else make_bzimage(data))


@settings(max_examples=100)
@given(st.sampled_from(payload._COMPRESSIONS), st.binary(max_size=200))
def test_noise_after_a_magic_raises_nothing_else(compression: payload._Compression, noise: bytes) -> None:
    with pytest.raises(KernelImageError):
        extract_elf(compression.magic + noise)


def test_the_gzip_of_a_stream_with_a_name_is_accepted() -> None:
    buffer = io.BytesIO()
    with gzip.GzipFile("vmlinux", "wb", fileobj=buffer) as file:
        file.write(ELF)
    assert extract_elf(buffer.getvalue()) == ELF
