"""What a front end can take, of each kind of frame. In conversation: test_backend."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.dom0.net import frames as make
from xenion.dom0.net.frontend import Features
from xenion.dom0.net.shaping import Shaper
from xenion.dom0.net.wire import Frame

FEATURES = st.builds(
    Features,
    sg=st.booleans(),
    gso=st.frozensets(st.sampled_from([1, 2])),
    csum_v4=st.booleans(),
    csum_v6=st.booleans(),
    rx_notify=st.just(True),
    multicast_control=st.just(False),
)
PLACES: Any = st.sampled_from([{}, {"source": "fd00::1", "target": "fd00::2"}, {"vlans": 1}])


@given(FEATURES, st.integers(576, 9000), st.integers(0, 65_000), PLACES, st.booleans(), st.booleans())
def test_nothing_that_it_cannot_take_and_no_byte_lost(
    features: Features, mtu: int, size: int, how: Any, blank: bool, segmented: bool
) -> None:
    data = make.tcp(b"p" * size, blank=blank or segmented, **how)
    version = 2 if "source" in how else 1
    frame = Frame(memoryview(bytearray(data)), blank or segmented, True)
    if segmented:
        frame.gso, frame.mss = version, 1000
    shaped = Shaper(features, mtu).shape(frame)
    head = len(data) - size
    for each in shaped:
        length = len(each.data)
        assert features.sg or length <= 4096
        assert not each.blank or (features.csum_v6 if version == 2 else features.csum_v4)
        assert not each.gso or (each.gso in features.gso and features.sg and each.blank and each.mss >= 48)
        if each.blank:
            assert bytes(each.data) == make.tcp(b"p" * size, blank=True, **how)
    if shaped:
        assert b"".join(bytes(each.data[head:]) for each in shaped) == b"p" * size
    else:
        assert not features.sg, "only a page's end can be in the way"


@given(st.binary(max_size=100), FEATURES, st.booleans(), st.integers(0, 3), st.integers(0, 2000))
def test_any_bytes(data: bytes, features: Features, blank: bool, gso: int, mss: int) -> None:
    frame = Frame(memoryview(bytearray(make.tcp()[:24] + data)), blank, False, gso, mss)
    for each in Shaper(features, 576).shape(frame):
        assert len(each.data) >= 14
