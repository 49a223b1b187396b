"""The head of a qcow2 file, be it anybody's."""

import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.xend.disks.kit import qcow2, raw
from xenion.xend.disks import header
from xenion.xend.disks.header import Header, HeaderError


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize("compat", ["0.10", "1.1"])
def test_as_qemu_writes_it(tmp_path: Path, compat: str) -> None:
    path = qcow2(tmp_path / "image", "-o", f"compat={compat}", size=3 << 20)
    assert header.parse(path.read_bytes()) == Header(3 << 20, "", "")
    raw(tmp_path / "base", 5 << 20)
    path = qcow2(tmp_path / "over", "-o", f"compat={compat}", "-F", "raw", "-b", "base")
    assert header.parse(path.read_bytes()[: header.HEAD_BYTES]) == Header(5 << 20, "base", "raw")


@pytest.mark.usefixtures("tools")
def test_data_elsewhere(tmp_path: Path) -> None:
    path = qcow2(tmp_path / "image", "-o", f"data_file={tmp_path / 'data'}")
    with pytest.raises(HeaderError, match="keeps its data in another file"):
        header.parse(path.read_bytes())


def head(
    *,
    version: int = 3,
    backing: bytes = b"",
    crypt: int = 0,
    incompatible: int = 0,
    length: int = 104,
    extensions: bytes = bytes(8),
) -> bytes:
    start = 104 + len(extensions)
    first = struct.pack(
        ">4sIQIIQI", b"QFI\xfb", version, start if backing else 0, len(backing), 16, 1 << 20, crypt
    )
    rest = struct.pack(">QQQII", incompatible, 0, 0, 4, length)
    return first + bytes(72 - len(first)) + rest + extensions + backing


def test_made_by_hand() -> None:
    assert header.parse(head(backing=b"/x")) == Header(1 << 20, "/x", "")
    named = struct.pack(">II8s", 0xE2792ACA, 3, b"raw") + bytes(8)
    assert header.parse(head(backing=b"y", extensions=named)).backing_format == "raw"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is not a qcow2 image"),
        (b"\0" * 512, "is not a qcow2 image"),
        (head()[:50], "ends within"),
        (head()[:90], "ends within"),
        (head(version=1), "of version 1"),
        (head(crypt=2), "encrypted"),
        (head(incompatible=4), "another file"),
        (head(extensions=struct.pack(">II8s", 0x44415441, 1, b"d")), "another file"),
        (head(length=64), "wrong length"),
        (head(length=1 << 30), "wrong length"),
        (head(extensions=struct.pack(">II", 0xE2792ACA, 1 << 31)), "points behind its end"),
        (head(backing=b"x" * 1024), "points behind its end"),
        (head(backing=b"x" * 1000)[:-1], "points behind its end"),
        (head(backing=b"\xff"), "no text"),
        (head(backing=b"a\nb"), "control characters"),
    ],
)
def test_refused(data: bytes, says: str) -> None:
    with pytest.raises(HeaderError, match=says):
        header.parse(data)


@given(st.binary(max_size=300), st.binary(max_size=32))
def test_whatever_it_holds_it_is_read_or_refused(more: bytes, last: bytes) -> None:
    for data in (b"QFI\xfb" + more, head(extensions=more, backing=last)):
        with suppress(HeaderError):
            assert header.parse(data).backing.isprintable()
