"""Archives are read back by a reader of the test's own, and by the host's cpio where it has one."""

import gzip
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.images import initramfs
from xenion.images.initramfs import InitramfsError


@dataclass(frozen=True)
class Entry:
    mode: int
    owner: tuple[int, int]
    mtime: int
    device: tuple[int, int]
    data: bytes


def read(archive: bytes) -> dict[str, Entry]:
    """The entries in the archive's order; fails where the format is not kept."""
    raw = gzip.decompress(archive)
    found: dict[str, Entry] = {}
    at = 0
    while True:
        assert at % 4 == 0
        assert raw[at : at + 6] == b"070701"
        fields = [int(raw[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        _, mode, uid, gid, _, mtime, size, _, _, major, minor, name_size, checksum = fields
        assert checksum == 0
        name, end = raw[at + 110 : at + 110 + name_size].split(b"\0", 1)
        assert end == b""
        at = (at + 110 + name_size + 3) & ~3
        if name == b"TRAILER!!!":
            assert size == 0
            assert at == len(raw)
            return found
        assert name.decode() not in found
        found[name.decode()] = Entry(mode, (uid, gid), mtime, (major, minor), raw[at : at + size])
        at = (at + size + 3) & ~3


def regular(archive: bytes) -> dict[str, bytes]:
    return {name: entry.data for name, entry in read(archive).items() if stat.S_ISREG(entry.mode)}


names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=9)
paths = st.lists(names.filter(lambda name: name not in (".", "..")), min_size=1, max_size=3).map("/".join)


@given(st.dictionaries(paths.map(lambda path: "files/" + path), st.binary(max_size=50), max_size=6))
def test_what_is_put_in_comes_out(files: dict[str, bytes]) -> None:
    if any(other.startswith(name + "/") for name in files for other in files):
        with pytest.raises(InitramfsError):
            initramfs.build(files)
        return
    archive = initramfs.build(files)
    assert regular(archive) == files
    assert archive == initramfs.build(dict(reversed(files.items())))


@given(st.text(max_size=12))
def test_any_path_is_kept_inside_or_refused(path: str) -> None:
    try:
        archive = initramfs.build({path: b"x"})
    except InitramfsError:
        return
    (name,) = regular(archive)
    assert not name.startswith("/")
    assert not {"", ".", ".."} & set(name.split("/"))


def test_folders_come_before_what_is_in_them() -> None:
    entries = read(initramfs.build({"a/b/c": b"", "a.b": b""}))
    order = list(entries)
    assert order.index("a") < order.index("a/b") < order.index("a/b/c")
    assert stat.S_ISDIR(entries["a/b"].mode)


def test_the_kernel_finds_a_console_and_everything_is_roots() -> None:
    entries = read(initramfs.build({"init": b"#!"}))
    assert set(entries) == {"dev", "dev/console", "dev/null", "init"}
    assert entries["dev/console"].device == (5, 1)
    assert entries["dev/null"].device == (1, 3)
    assert stat.S_ISCHR(entries["dev/console"].mode)
    assert entries["init"].mode == stat.S_IFREG | 0o755
    assert {(entry.owner, entry.mtime) for entry in entries.values()} == {((0, 0), 0)}


def test_a_host_file_gives_its_content_alone(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"same")
    two.write_bytes(b"same")
    two.chmod(0o600)
    assert initramfs.build({"/f": one}) == initramfs.build({"f": two}) == initramfs.build({"f": b"same"})


def test_a_host_file_that_is_missing_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone"):
        initramfs.build({"f": tmp_path / "gone"})


@pytest.mark.parametrize(
    "path",
    ["", "/", ".", "a/", "..", "a/../b", "a\0b", "\ud800", "TRAILER!!!", "x" * 4096, "x/" * 2048 + "x"],
)
def test_paths_that_cannot_be_are_refused(path: str) -> None:
    with pytest.raises(InitramfsError):
        initramfs.build({path: b""})


@pytest.mark.parametrize(
    "files", [{"dev": b""}, {"dev/null": b""}, {"a": b"", "a/b": b""}, {"a": b"", "/a": b""}]
)
def test_paths_that_contradict_each_other_are_refused(files: dict[str, bytes | Path]) -> None:
    with pytest.raises(InitramfsError):
        initramfs.build(files)


def test_a_name_of_any_bytes_is_kept() -> None:
    assert b"caf\xe9\0" in gzip.decompress(initramfs.build({"caf\udce9": b""}))


def test_cpio_agrees() -> None:
    if not shutil.which("cpio"):
        pytest.skip("cpio is not here")
    archive = gzip.decompress(initramfs.build({"bin/tool": b"12345", "init": b"#!"}))
    listed = subprocess.run(["cpio", "-t", "--quiet"], input=archive, capture_output=True, check=True)
    assert listed.stdout.decode().split() == ["bin", "bin/tool", "dev", "dev/console", "dev/null", "init"]
