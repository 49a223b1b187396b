"""The receive ring's slots, in their order. What the frames become: test_backend."""

from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.dom0.net import frames as make
from tests.unit.dom0.net.conftest import Plugged
from xenion.dom0.net.wire import Frame


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.tuples(st.integers(14, 65_000), st.booleans()), max_size=12))
def test_frames_lie_in_the_slots_of_their_requests(
    plug: Callable[..., Plugged], frames: list[tuple[int, bool]]
) -> None:
    made = plug()
    rx = made.backend._queues[0].rx
    made.front.queue.post(256)
    expected, used = [], 0
    for size, gso in frames:
        data = make.ether(bytes(size - 14), 0x88B5)
        needed = -(-size // 4096) + gso
        fits = used + needed <= 256
        assert rx.offer(Frame(memoryview(data), gso, gso, int(gso), 1000 if gso else 0)) == fits
        if not fits:
            break
        used += needed
        expected.append((data, (1000, 1) if gso else None))
    rx.flush()
    assert [(data, gso) for data, _, gso in made.front.queue.received()] == expected
    assert made.front.queue.rx.rsp_cons == used
