"""Sections on their way into a file and out of it; and files that somebody has had their hands on."""

import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.domain.saved.format import (
    DIGEST_BYTES,
    DONE,
    HEAD,
    HOST,
    MOST_BYTES,
    PAGES,
    SECTION,
    START,
    STATE,
    VERSION,
    Reader,
    SavedFileError,
    SaveError,
    Section,
    Writer,
    digest,
)

KINDS = (HEAD, STATE, PAGES, PAGES, DONE, HOST)
SECTIONS = [(HEAD, b"{}"), (STATE, b""), (PAGES, bytes(range(9))), (DONE, bytes(8)), (HOST, b"[1]")]


@contextmanager
def holding(data: bytes) -> Iterator[int]:
    fd = os.memfd_create("saved")
    try:
        os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)


def section(kind: bytes, data: bytes) -> bytes:
    return SECTION.pack(kind, len(data)) + data + digest(kind, data)


def file_of(sections: list[tuple[bytes, bytes]]) -> bytes:
    return START.pack(b"XENIONSV", VERSION) + b"".join(section(*each) for each in sections)


def written(sections: list[tuple[bytes, bytes]]) -> bytes:
    with holding(b"") as fd:
        writer = Writer(fd)
        writer.begin()
        for kind, data in sections:
            writer.section(kind, data)
        writer.finish()
        return os.pread(fd, 1 << 24, 0)


def read_all(fd: int) -> list[Section]:
    """All that SECTIONS has, whose kinds are known."""
    reader = Reader(fd)
    reader.begin()
    return [reader.next(kind) for kind, _ in SECTIONS]


def read(data: bytes) -> list[Section]:
    with holding(data) as fd:
        return read_all(fd)


WHOLE = file_of(SECTIONS)


def test_what_a_file_is() -> None:
    assert written(SECTIONS) == WHOLE
    assert WHOLE[:12] == b"XENIONSV\x01\0\0\0"
    assert WHOLE[12:24] == b"HEAD\x02\0\0\0\0\0\0\0"


def test_what_was_written_is_read() -> None:
    assert read(WHOLE) == SECTIONS


@given(st.lists(st.tuples(st.sampled_from((HEAD, STATE, PAGES, HOST)), st.binary(max_size=300)), max_size=6))
def test_any_sections(sections: list[tuple[bytes, bytes]]) -> None:
    with holding(written(sections)) as fd:
        reader = Reader(fd)
        reader.begin()
        assert [reader.next(*KINDS) for _ in sections] == sections
        with pytest.raises(SavedFileError, match=r"^it is cut off$"):
            reader.next(*KINDS)


@pytest.mark.parametrize("size", range(len(WHOLE)))
def test_a_file_that_is_cut_off(size: int) -> None:
    why = "it is not a saved domain" if size < START.size else "it is cut off"
    with pytest.raises(SavedFileError, match=f"^{why}$"):
        read(WHOLE[:size])


@pytest.mark.parametrize("at", range(len(WHOLE)))
def test_a_byte_that_is_another(at: int) -> None:
    data = bytearray(WHOLE)
    data[at] ^= 1 << at % 8
    with pytest.raises(
        SavedFileError, match=r"^it is (damaged|cut off|not a saved domain|of version \d+, .*)$"
    ):
        read(bytes(data))


@given(st.binary(max_size=200))
def test_anything_is_no_saved_domain(data: bytes) -> None:
    with pytest.raises(SavedFileError, match=r"^it is not a saved domain$"):
        read(data)


@given(at=st.integers(0, len(WHOLE)), gone=st.integers(0, 60), new=st.binary(max_size=60))
def test_any_part_that_is_another(at: int, gone: int, new: bytes) -> None:
    data = WHOLE[:at] + new + WHOLE[at + gone :]
    try:
        found = read(data)
    except SavedFileError:
        return
    assert found == SECTIONS


@pytest.mark.parametrize("version", [0, 2, 99, (1 << 32) - 1])
def test_another_version(version: int) -> None:
    with pytest.raises(SavedFileError) as refused:
        read(START.pack(b"XENIONSV", version) + WHOLE[START.size :])
    assert str(refused.value) == (
        f"it is of version {version}, and this Xenion reads version 1: "
        "restore it with the Xenion that saved it, or a newer one"
    )


@pytest.mark.parametrize("kinds", [(STATE, HEAD), (PAGES,), (DONE,), (HOST,), (b"\0\0\0\0",), (b"head",)])
def test_sections_out_of_order(kinds: tuple[bytes, ...]) -> None:
    data = START.pack(b"XENIONSV", VERSION) + b"".join(section(kind, b"{}") for kind in kinds)
    with pytest.raises(SavedFileError, match=r"^it is damaged$"):
        read(data)


def test_a_section_under_the_name_of_another() -> None:
    """Its checksum is of the letters, too."""
    data = SECTION.pack(STATE, 2) + b"{}" + digest(HEAD, b"{}")
    with holding(data) as fd, pytest.raises(SavedFileError, match=r"^it is damaged$"):
        Reader(fd).section(STATE)


@pytest.mark.parametrize("pull", [Reader.section, Reader.next, Reader.skip])
@pytest.mark.parametrize("kind", MOST_BYTES)
@pytest.mark.parametrize("more", [1, 1 << 40, (1 << 64) - 1])
def test_a_section_that_is_too_large(kind: bytes, more: int, pull: Callable[[Reader, bytes], object]) -> None:
    """Nothing is read, and no memory taken, for what cannot be."""
    size = min(MOST_BYTES[kind] + more, (1 << 64) - 1)
    with holding(SECTION.pack(kind, size)) as fd, pytest.raises(SavedFileError, match=r"^it is damaged$"):
        pull(Reader(fd), kind)


@pytest.mark.parametrize("kind", [HEAD, DONE, HOST])
def test_the_largest_section(kind: bytes) -> None:
    data = bytes(MOST_BYTES[kind])
    with holding(written([(kind, data)])) as fd:
        reader = Reader(fd)
        reader.begin()
        assert reader.section(kind) == data


@pytest.mark.parametrize("kind", [HEAD, DONE, HOST])
def test_what_is_too_large_is_not_written(kind: bytes) -> None:
    with holding(b"") as fd:
        with pytest.raises(
            SaveError, match=r"^the domain cannot be saved: what it is beside its memory is too large$"
        ):
            Writer(fd).section(kind, bytes(MOST_BYTES[kind] + 1))
        assert os.fstat(fd).st_size == 0


# --- passing over


def test_sections_that_are_passed_over() -> None:
    with holding(WHOLE) as fd:
        reader = Reader(fd)
        reader.begin()
        assert reader.section(HEAD) == b"{}"
        assert [reader.skip(STATE), reader.skip(PAGES, DONE), reader.skip(PAGES, DONE)] == [
            STATE,
            PAGES,
            DONE,
        ]
        assert reader.section(HOST) == b"[1]"


@pytest.mark.parametrize("size", range(START.size, len(WHOLE)))
def test_a_cut_is_found_behind_what_is_passed_over(size: int) -> None:
    with holding(WHOLE[:size]) as fd, pytest.raises(SavedFileError, match=r"^it is cut off$"):
        look_at_the_end(fd)


def look_at_the_end(fd: int) -> bytes:
    reader = Reader(fd)
    reader.begin()
    for kind, _ in SECTIONS[:-1]:
        reader.skip(kind)
    return reader.section(HOST)


def test_what_is_passed_over_is_of_a_kind_too() -> None:
    with holding(section(HOST, b"")) as fd, pytest.raises(SavedFileError, match=r"^it is damaged$"):
        Reader(fd).skip(PAGES, DONE)


def test_a_pipe_cannot_be_passed_over() -> None:
    near, far = os.pipe()
    os.write(far, section(HEAD, b"{}"))
    with pytest.raises(SavedFileError, match=r"^it cannot be read \(Illegal seek\)$"):
        Reader(near).skip(HEAD)
    os.close(near)
    os.close(far)


# --- descriptors of all kinds


def through_a_pipe(write: Callable[[int], None], read: Callable[[int], None]) -> None:
    """Each at its end, and neither waits for one that has failed."""
    near, far = os.pipe()

    def run() -> None:
        try:
            read(near)
        finally:
            os.close(near)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        write(far)
    finally:
        os.close(far)
        thread.join()


def test_through_a_pipe_in_small_parts() -> None:
    """More than a pipe holds, so neither end has it at once."""
    large = os.urandom(1 << 19)
    found: list[bytes] = []
    through_a_pipe(
        lambda far: Writer(far).section(STATE, large), lambda near: found.append(Reader(near).section(STATE))
    )
    assert found == [large]


def test_a_pipe_is_finished_as_well() -> None:
    """There is no disk for it to be on."""
    found: list[bytes] = []

    def write(far: int) -> None:
        writer = Writer(far)
        writer.begin()
        writer.finish()

    through_a_pipe(write, lambda near: found.append(os.read(near, 100)))
    assert found == [START.pack(b"XENIONSV", VERSION)]


def test_it_goes_where_the_file_is_at() -> None:
    """And is read from there: neither looks for its start."""
    with holding(b"before") as fd:
        os.lseek(fd, 0, os.SEEK_END)
        writer = Writer(fd)
        writer.begin()
        writer.section(DONE, bytes(8))
        os.lseek(fd, 6, os.SEEK_SET)
        reader = Reader(fd)
        reader.begin()
        assert reader.section(DONE) == bytes(8)


def test_a_full_disk() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(SaveError) as refused:
        Writer(fd).begin()
    os.close(fd)
    assert str(refused.value) == (
        "the domain cannot be saved (No space left on device): make room there or name a file elsewhere"
    )


def test_a_disk_that_is_full_only_when_it_has_to_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("xenion.domain.saved.format.os.fsync", full)
    with holding(b"") as fd, pytest.raises(SaveError, match=r"cannot be saved \(No space left on device\)"):
        Writer(fd).finish()


def test_a_disk_that_takes_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr("xenion.domain.saved.format.os.write", lambda fd, data: write(fd, data[:7]))
    assert written(SECTIONS) == WHOLE


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(SavedFileError, match=r"^it cannot be read \(Is a directory\)$"):
        Reader(fd).begin()
    os.close(fd)


def test_a_reader_that_went_away(tmp_path: Path) -> None:
    near, far = os.pipe()
    os.close(near)
    with pytest.raises(SaveError, match="Broken pipe"):
        Writer(far).section(STATE, bytes(1 << 20))
    os.close(far)


def test_the_checksum_is_of_all_that_a_section_is() -> None:
    assert len(digest(HEAD, b"")) == DIGEST_BYTES
    assert len({digest(kind, data) for kind in (HEAD, HOST) for data in (b"", b"\0", b"\0\0")}) == 6
    assert struct.calcsize("<4sQ") == SECTION.size
