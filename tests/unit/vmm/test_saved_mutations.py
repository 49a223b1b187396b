"""States and memory that somebody has had their hands on: refused, or another domain, and nothing worse."""

import struct
from collections.abc import Iterator
from typing import cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.core.isolation import check_isolation
from tests.unit.core.world import World
from tests.unit.vmm.saved_kit import (
    CONTROL_PFN,
    GDT_PFN,
    INFO_PFN,
    TABLE_PFN,
    WORDS_PFN,
    Seen,
    all_of_it,
    begun,
    check,
    empty_domain,
    mutate,
    pages_of,
    put,
)
from xenion.vmm.saved import (
    DomainState,
    SavedStateError,
    capture,
)


class Rich:
    """What one is, and its memory: too much to be shown."""

    def __init__(self, state: bytes, pages: dict[int, bytes]) -> None:
        self.state, self.pages = state, pages


@pytest.fixture(scope="module")
def rich() -> Iterator[Rich]:
    """One that has everything."""
    with begun(3) as kernel:
        all_of_it(kernel)
        state = capture(kernel.domain)
        yield Rich(msgspec.json.encode(state), pages_of(kernel.domain, state))


@settings(max_examples=100)
@given(data=st.data(), changes=st.integers(1, 4))
def test_any_state(rich: Rich, data: st.DataObject, changes: int) -> None:
    """Is refused, or makes a guest like any other."""
    tree = msgspec.json.decode(rich.state)
    for _ in range(changes):
        mutate(tree, data)
    try:
        state = msgspec.json.decode(msgspec.json.encode(tree), type=DomainState)
    except (msgspec.DecodeError, OverflowError):
        return
    with empty_domain(3) as domain:
        try:
            put(domain, state, rich.pages)
        except SavedStateError:
            return
        check(domain)


@settings(max_examples=40)
@given(data=st.data())
def test_any_memory(rich: Rich, data: st.DataObject) -> None:
    """Tables and what else is read from there are the file's, too."""
    state = msgspec.json.decode(rich.state, type=DomainState)
    pages = {mfn: bytearray(page) for mfn, page in rich.pages.items()}
    first = min(mfn for mfn, _ in state.owned)
    interesting = [first + pfn for pfn in (*range(4), TABLE_PFN, GDT_PFN, WORDS_PFN, CONTROL_PFN, INFO_PFN)]
    mfn = st.one_of(st.sampled_from(interesting), st.sampled_from(sorted(pages)))
    entry = st.builds(lambda frame, flags: frame << 12 | flags, st.integers(0, 170), st.integers(0, 0x1FF))
    words = st.tuples(mfn, st.integers(0, 511), st.one_of(entry, st.integers(0, (1 << 64) - 1)))
    for where, index, word in data.draw(st.lists(words, min_size=1, max_size=5)):
        struct.pack_into("<Q", pages[where], index * 8, word)
    with empty_domain(3) as domain:
        try:
            put(domain, state, {number: bytes(page) for number, page in pages.items()})
        except SavedStateError:
            return
        check_isolation(cast("World", Seen(domain)))
