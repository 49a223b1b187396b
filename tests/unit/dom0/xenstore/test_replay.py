"""Records of a journal make the store that told them, from any moment on."""

from tests.unit.dom0.xenstore.stores import contents
from tests.unit.dom0.xenstore.test_statefile import busy
from xenion.dom0.xenstore.journal import Record
from xenion.dom0.xenstore.replay import apply
from xenion.dom0.xenstore.store import Store


def journal_of_a_busy_store() -> tuple[Store, list[tuple[Record, bytes, bytes, bytes]]]:
    store = Store()
    told: list[tuple[Record, bytes, bytes, bytes]] = []

    def note(kind: Record, a: bytes = b"", b: bytes = b"", c: bytes = b"") -> None:
        told.append((kind, a, b, c))

    store.tell(note)
    busy(store)
    store.release(6)
    return store, told


def test_all_of_it_makes_the_same_store() -> None:
    store, told = journal_of_a_busy_store()
    other = Store()
    for record in told:
        apply(other, *record)
    assert contents(other) == contents(store)


def test_what_has_been_applied_may_be_applied_again() -> None:
    """A snapshot may hold the end of what the journal still tells."""
    store, told = journal_of_a_busy_store()
    other = Store()
    for record in (*told, *told):
        apply(other, *record)
    assert contents(other) == contents(store)


def test_what_concerns_a_domain_that_is_gone_is_passed_over() -> None:
    store = Store()
    before = contents(store)
    for record in (
        (Record.WATCH, b"guest 9", b"data\0t", b"1"),
        (Record.UNWATCH, b"guest 9", b"data\0t", b""),
        (Record.UNWATCH_ALL, b"process 9", b"", b""),
        (Record.TARGET, b"9", b"5", b""),
        (Record.QUOTA, b"9", b"nodes", b"5"),
        (Record.RELEASED, b"9", b"", b""),
        (Record.GONE, b"/nothing", b"", b""),
    ):
        apply(store, *record)
    assert contents(store) == before
