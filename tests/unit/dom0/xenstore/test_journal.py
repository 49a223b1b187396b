"""What the state file is written in."""

from xenion.dom0.xenstore.journal import FORMAT, Record, no_journal


def test_numbers_are_for_good() -> None:
    """Another meaning needs another FORMAT."""
    assert FORMAT == 1
    assert [f"{kind.name}={kind}" for kind in Record] == [
        "NODE=1", "GONE=2", "WATCH=3", "UNWATCH=4", "UNWATCH_ALL=5", "DOMAIN=6", "RELEASED=7", "TARGET=8",
        "SPECIAL=9", "QUOTA=10", "FEATURES=11", "HELD=12", "RECENT=13",
    ]  # fmt: skip


def test_nobody_listens_at_first() -> None:
    no_journal(Record.NODE, b"/a", b"n0", b"")
