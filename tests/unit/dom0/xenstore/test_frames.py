"""The state file's format."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.dom0.xenstore.frames import (
    FRAME_HEAD_SIZE,
    StateError,
    file_head,
    frame,
    read_file,
    record,
    records_of,
)
from xenion.dom0.xenstore.journal import Record

PATH = Path("some/state")
HEAD = file_head()


def written(*turns: list[bytes]) -> bytes:
    frames = [
        frame(b"".join(b"".join(record(Record.NODE, path, b"n0", b"v")) for path in turn), number)
        for number, turn in enumerate(turns, 1)
    ]
    return HEAD + b"".join(frames)


def paths(data: bytes) -> list[list[bytes]]:
    return [[a for _, a, _, _ in records_of(PATH, read)] for read in read_file(PATH, data)]


def test_what_is_written_is_read() -> None:
    data = written([b"/a", b"/b"], [b"/c"])
    assert paths(data) == [[b"/a", b"/b"], [b"/c"]]
    first, second = read_file(PATH, data)
    assert (first.generation, second.generation, second.end) == (1, 2, len(data))
    assert list(records_of(PATH, second)) == [(Record.NODE, b"/c", b"n0", b"v")]


def test_nothing_is_an_empty_store() -> None:
    assert paths(b"") == paths(HEAD) == []


@given(st.data())
def test_a_torn_end_is_cut(data: st.DataObject) -> None:
    whole = written([b"/a"], [b"/b"], [b"/c", b"/d"])
    kept = written([b"/a"], [b"/b"])
    cut = data.draw(st.integers(len(kept), len(whole) - 1))
    assert paths(whole[:cut]) == [[b"/a"], [b"/b"]]


@given(st.data())
def test_a_changed_byte_is_refused_wherever_it_is(data: st.DataObject) -> None:
    whole = bytearray(written([b"/a"], [b"/b"], [b"/c", b"/d"]))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(StateError, match="some/state"):
        paths(bytes(whole))


def test_other_files_are_refused() -> None:
    with pytest.raises(StateError, match="no state"):
        paths(b"#!/bin/sh\nexit 0\n")
    with pytest.raises(StateError, match="no state"):
        paths(HEAD[:5])
    with pytest.raises(StateError, match=r"version 7 .* version 1"):
        paths(HEAD[:8] + struct.pack("<I", 7))


def test_a_record_that_nobody_writes_is_refused() -> None:
    for records in (b"\xff" + b"\0" * 12, b"\x01\0"):
        with pytest.raises(StateError, match="damaged at byte"):
            paths(HEAD + frame(records, 1))


def test_a_head_is_what_it_says() -> None:
    assert len(frame(b"", 0)) == FRAME_HEAD_SIZE
