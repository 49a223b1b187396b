"""What a switch learns, and forgets."""

from hypothesis import given
from hypothesis import strategies as st

from xenion.dom0.net.switching import AGE_SECONDS, PORT_ADDRESSES, AddressTable


def mac(number: int) -> bytes:
    return bytes([2]) + number.to_bytes(5, "big")


def table() -> tuple[AddressTable[str], list[float]]:
    now = [0.0]
    return AddressTable[str](lambda: now[0]), now


def test_learns_moves_and_forgets() -> None:
    it, _ = table()
    assert it.find(mac(1)) is None
    it.learn(mac(1), "a")
    assert it.find(mac(1)) == "a"
    it.learn(mac(1), "b")
    assert it.find(mac(1)) == "b"
    it.forget("a")
    assert it.find(mac(1)) == "b"
    it.forget("b")
    it.forget("b")
    assert it.find(mac(1)) is None
    assert len(it) == 0


def test_groups_are_nobody_s() -> None:
    it, _ = table()
    it.learn(b"\xff" * 6, "a")
    it.learn(b"\x01\0\x5e\0\0\x01", "a")
    assert len(it) == 0


def test_the_silent_age() -> None:
    it, now = table()
    it.learn(mac(1), "a")
    now[0] = AGE_SECONDS
    assert it.find(mac(1)) == "a"
    now[0] += 1
    assert it.find(mac(1)) is None
    assert len(it) == 0


def test_a_flood_costs_its_own_sender() -> None:
    it, _ = table()
    it.learn(mac(0), "honest")
    for number in range(1, 5 * PORT_ADDRESSES):
        it.learn(mac(number), "flood")
    assert len(it) == PORT_ADDRESSES + 1
    assert it.find(mac(0)) == "honest"
    assert it.find(mac(1)) is None


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from("abc"), st.sampled_from(["learn", "forget", "age"]))
    )
)
def test_it_agrees_with_a_simple_model(steps: list[tuple[int, str, str]]) -> None:
    it, now = table()
    model: dict[bytes, tuple[str, float]] = {}
    for number, port, what in steps:
        if what == "learn":
            it.learn(mac(number), port)
            model[mac(number)] = (port, now[0])
        elif what == "forget":
            it.forget(port)
            model = {address: where for address, where in model.items() if where[0] != port}
        else:
            now[0] += AGE_SECONDS / 2
        for n in range(6):
            known = model.get(mac(n))
            expected = known[0] if known and now[0] - known[1] <= AGE_SECONDS else None
            assert it.find(mac(n)) == expected
