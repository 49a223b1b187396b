"""Lists of memory, cut."""

from hypothesis import given
from hypothesis import strategies as st

from xenion.dom0.block.views import head, skip, zero

CHUNKS = st.lists(st.binary(min_size=1, max_size=20), max_size=8)


@given(CHUNKS, st.integers(0, 200))
def test_head_and_rest_are_the_whole(chunks: list[bytes], count: int) -> None:
    views = [memoryview(chunk) for chunk in chunks]
    whole = b"".join(chunks)
    count = min(count, len(whole))
    assert b"".join(head(views, count)) == whole[:count]
    assert b"".join(skip(views, count)) == whole[count:]
    assert all(head(views, count))
    assert all(skip(views, count))


def test_zero() -> None:
    data = bytearray(b"abcdef")
    zero([memoryview(data)[1:3], memoryview(data)[5:]])
    assert data == b"a\0\0de\0"
