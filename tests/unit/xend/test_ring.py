"""The message ring: what is added is read, also by the next xend and without a disk."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.xend.disk import disk_ends_at
from xenion.xend.ring import MessageRing


def words(ring: MessageRing) -> list[str]:
    return [line.split("] ", 1)[1] for line in ring.read().splitlines()]


def test_messages_look_as_xen_prints_them_and_outlive_xend(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    ring = MessageRing(path)
    assert ring.read() == ""
    ring.add("Dom1 \x1b[31mcrashed\r\nthen\n")
    ring.add("grüße \ud800")
    assert re.fullmatch(
        r"\(XEN\) \[ *\d+\.\d{6}\] Dom1 \\x1b\[31mcrashed\\r\\nthen", ring.read().splitlines()[0]
    )
    assert words(ring)[1] == r"grüße \ud800"
    assert MessageRing(path).read() == ring.read()
    assert path.stat().st_mode & 0o777 == 0o600


def test_ring_and_file_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    ring = MessageRing(path, size=1000)
    biggest = 0
    for i in range(200):
        ring.add(f"message {i}")
        biggest = max(biggest, path.stat().st_size)
    assert 1500 < biggest <= 2000
    assert 900 < len(ring.read()) <= 1000
    assert words(ring)[-1] == "message 199"
    assert MessageRing(path, size=1000).read() == ring.read()
    assert [p.name for p in tmp_path.iterdir()] == ["ring"]
    ring.add("x" * 5000)
    assert words(ring) == ["x" * 1000]


def test_what_is_cleared_stays_cleared(tmp_path: Path) -> None:
    ring = MessageRing(tmp_path / "ring")
    ring.add("one")
    ring.clear()
    assert ring.read() == MessageRing(tmp_path / "ring").read() == ""
    ring.add("two")
    assert words(MessageRing(tmp_path / "ring")) == words(ring) == ["two"]


def test_a_file_cut_anywhere_gives_its_whole_messages(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    ring = MessageRing(path)
    for i in range(4):
        ring.add(f"message {i} ü")
    whole = path.read_bytes()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        again = MessageRing(path)
        count = whole[:cut].count(b"\n")
        assert again.read() == "".join(ring.read().splitlines(keepends=True)[:count])
        again.add("more")
        assert words(MessageRing(path)) == [*words(ring)[:count], "more"]


@given(st.binary(max_size=3000))
def test_any_file_is_fine(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any ring"
    path.write_bytes(b"(XEN) \x1b]0;\xff\n" + content)
    ring = MessageRing(path, size=1000)
    ring.add("more")
    assert "\x1b" not in ring.read()
    assert MessageRing(path, size=1000).read().endswith("] more\n")


def test_without_a_disk_messages_are_in_memory_and_written_when_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "folder" / "ring"
    ring = MessageRing(path)
    ring.add("one")
    ring.add("two")
    assert words(ring) == ["one", "two"]
    assert len(caplog.records) == 1
    assert str(path) in caplog.text
    path.parent.mkdir()
    ring.add("three")
    assert words(MessageRing(path)) == ["one", "two", "three"]


def test_a_ring_that_could_not_be_cleared_on_disk_is_cleared_later(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    ring = MessageRing(path)
    ring.add("one")
    blocked = tmp_path / "ring.new"
    blocked.mkdir()
    ring.clear()
    assert ring.read() == ""
    blocked.rmdir()
    ring.add("two")
    assert words(MessageRing(path)) == ["two"]


@pytest.mark.parametrize("meanwhile", [[], ["three"]])
def test_a_message_written_in_part_is_written_again(tmp_path: Path, meanwhile: list[str]) -> None:
    path = tmp_path / "ring"
    ring = MessageRing(path)
    ring.add("one")
    with disk_ends_at(path.stat().st_size + 9):
        ring.add("two")
        for text in meanwhile:
            ring.add(text)
        assert words(MessageRing(path)) == ["one"]
    ring.add("four")
    assert words(MessageRing(path)) == words(ring) == ["one", "two", *meanwhile, "four"]


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_what_is_no_plain_file_is_not_followed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "ring"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("(XEN) secret\n")
    if kind == "link":
        path.symlink_to(elsewhere)
    else:
        path.mkdir()
    ring = MessageRing(path)
    ring.add("one")
    assert words(ring) == ["one"]
    assert elsewhere.read_text() == "(XEN) secret\n"
