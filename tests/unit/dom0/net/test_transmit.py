"""How much of a guest's work is done at a time. What becomes of the packets: test_backend."""

from collections.abc import Callable

import pytest

from tests.unit.dom0.net import frames as make
from tests.unit.dom0.net.conftest import Plugged
from xenion.dom0.net import transmit

PLAIN = make.ether(b"hello" * 10, 0x88B5)


def test_a_busy_guest_is_served_in_turns(
    plug: Callable[..., Plugged], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transmit, "BATCH_PACKETS", 10)
    made = plug()
    for _ in range(250):
        made.front.queue.send(PLAIN)
    queue, seen = made.backend._queues[0].tx, []
    while (wait := queue.serve()) == 0.0:
        seen.append(len(made.wire.sent))
    assert wait == transmit.IDLE
    assert seen == [n * 10 * transmit.ROUNDS for n in range(1, len(seen) + 1)]
    assert len(made.wire.sent) == 250


def test_a_batch_ends_before_a_mistake(plug: Callable[..., Plugged]) -> None:
    made = plug()
    made.front.queue.send(PLAIN)
    made.front.queue.send(PLAIN)
    made.front.queue.tx.put(b"\xff" * 12)
    made.front.queue.tx.show()
    made.kick()
    assert made.wire.frames == [PLAIN, PLAIN]
    assert made.front.queue.answers() == [(0, 0), (0, 0)]
    assert len(made.said) == 1
