"""Writes that a server may still lose."""

from xenion.dom0.block.unflushed import Unflushed


def test_a_flush_covers_what_was_there_before() -> None:
    writes = Unflushed()
    writes.add(0, b"one")
    mark = writes.mark()
    writes.add(0, b"three")
    assert writes.writes() == [(0, b"one"), (0, b"three")]
    assert writes.bytes == 8
    writes.drop(mark)
    assert writes.writes() == [(0, b"three")]
    assert writes.bytes == 5
    writes.drop(mark)
    assert writes.bytes == 5
    writes.drop(writes.mark())
    assert (writes.writes(), writes.bytes) == ([], 0)
