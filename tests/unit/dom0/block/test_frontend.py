"""What a front end's nodes ask for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.dom0.block.frontend import Frontend, NodeError, number
from xenion.dom0.xenbus.backend import FrontendError

NAMES = st.sampled_from(
    ["protocol", "feature-persistent", "ring-page-order", "multi-queue-num-queues", "ring-ref", "ring-ref0",
     "ring-ref1", "event-channel", "queue-0/ring-ref", "queue-1/ring-ref", "queue-0/event-channel",
     "queue-1/event-channel", "queue-0/ring-ref0", "queue-0/ring-ref1"]
)  # fmt: skip
VALUES = st.one_of(
    st.text(max_size=12), st.integers(-2, 1 << 40).map(str), st.sampled_from(["x86_32-abi", "0", "1"])
)


def test_what_linux_writes() -> None:
    plain = Frontend(
        {"ring-ref": "8", "event-channel": "15", "protocol": "x86_64-abi", "feature-persistent": "1"}
    )
    assert (plain.rings, plain.persistent, plain.slots.bytes) == ([(15, [8])], True, 112)
    large = Frontend(
        {"ring-page-order": "1", "multi-queue-num-queues": "2", "protocol": "x86_32-abi",
         "queue-0/ring-ref0": "1", "queue-0/ring-ref1": "2", "queue-0/event-channel": "3",
         "queue-1/ring-ref0": "4", "queue-1/ring-ref1": "5", "queue-1/event-channel": "6"}
    )  # fmt: skip
    assert (large.rings, large.persistent, large.slots.bytes) == ([(3, [1, 2]), (6, [4, 5])], False, 108)
    assert Frontend({"ring-page-order": "0", "ring-ref0": "8", "event-channel": "9"}).rings == [(9, [8])]
    assert Frontend({"multi-queue-num-queues": "1", "ring-ref": "8", "event-channel": "9"}).rings == [
        (9, [8])
    ]


@given(st.dictionaries(NAMES, VALUES))
def test_anything_else_is_refused_in_a_sentence(nodes: dict[str, str]) -> None:
    try:
        asked = Frontend(nodes)
    except FrontendError as error:
        said = str(error)
    else:
        said = ""
        assert 1 <= len(asked.rings) <= 4
        for port, refs in asked.rings:
            assert 0 <= port < 1 << 32
            assert len(refs) in (1, 2, 4, 8, 16)
            assert all(0 <= ref < 1 << 32 for ref in refs)
    assert len(said) < 300
    assert said.isprintable()


@pytest.mark.parametrize("value", ["", " 1", "1\n", "+1", "0x1", "1.0", "\u0661", "1" * 11, "9"])
def test_numbers(value: str) -> None:
    with pytest.raises(NodeError):
        number({"n": value}, "n", 8)
    assert number({"n": "08"}, "n", 8) == 8
    assert number({}, "n", 8, default=3) == 3
    with pytest.raises(NodeError, match="is missing"):
        number({}, "n", 8)
