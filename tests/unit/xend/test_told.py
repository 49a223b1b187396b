"""What a process tells of its devices is taken for what it is: words of somebody who may lie."""

import json
from typing import Any, get_args

from hypothesis import given
from hypothesis import strategies as st

from xenion.api import types as t
from xenion.xend import told
from xenion.xend.entries import VBD, VIF

SOUND = {"kind": "vbd", "devid": 51712, "state": "Connected", "rd_req": 3, "wr_req": 4, "size_bytes": 1 << 40}

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80)
names = st.sampled_from(["kind", "devid", "state", "peer", "rd_req", "tx_bytes", "config"]) | st.text(
    max_size=3
)
values = st.recursive(
    scalars | st.sampled_from(["vbd", "vif", "Connected"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=6),
    max_leaves=20,
)
answers = st.dictionaries(st.just("devices") | st.text(max_size=3), values | st.lists(values), max_size=3)


def test_sound() -> None:
    found = told.parse({"devices": [SOUND, {"kind": "vif", "devid": 0, "state": "Closing", "peer": "passt"}]})
    disk, vif = found[VBD, 51712], found[VIF, 0]
    assert (disk.state, disk.count("rd_req"), disk.count("size_bytes")) == ("connected", 3, 1 << 40)
    assert (vif.state, vif.peer, vif.count("rx_bytes")) == ("closing", "passt", 0)
    assert told.NOTHING.state == "unknown"


def test_one_that_makes_no_sense_does_not_hide_the_others() -> None:
    wrong: list[Any] = [3, None, {}, {"kind": ["vbd"], "devid": 1}, {"kind": "vbd", "devid": True}]
    assert list(told.parse({"devices": [*wrong, SOUND]})) == [(VBD, 51712)]


def test_no_more_than_a_domain_can_have() -> None:
    many = [{**SOUND, "devid": n} for n in range(5000)]
    assert len(told.parse({"devices": many})) == 161


def test_traffic() -> None:
    devices = [
        SOUND,
        {**SOUND, "devid": 1, "rd_req": -1},
        {"kind": "vif", "devid": 0, "tx_bytes": 7, "rx_bytes": 8},
    ]
    assert told.traffic(told.parse({"devices": devices})) == {
        "vbds": 2, "vbd_rd": 3, "vbd_wr": 8, "nets": 1, "net_tx_bytes": 7, "net_rx_bytes": 8,
    }  # fmt: skip
    assert set(told.traffic({}).values()) == {0}


def test_vcpus() -> None:
    said = [{"state": "running", "cpu_seconds": 2}, {"state": "asleep", "cpu_seconds": True}, 7]
    assert told.parse_vcpus({"vcpus": said}, 1) == [("running", 2.0), ("offline", 0.0), ("offline", 0.0)]
    assert told.parse_vcpus({}, 2) == [("offline", 0.0)] * 2
    assert len(told.parse_vcpus({"vcpus": said * 100}, 1)) == 64


@given(answers)
def test_whatever_it_says(answer: dict[str, Any]) -> None:
    states = get_args(t.XenbusState)
    for (kind, devid), device in told.parse(answer).items():
        assert kind in (VBD, VIF)
        assert type(devid) is int
        assert device.state in states
        assert len(device.peer) <= 64
        device.peer.encode()
        assert all(0 <= device.count(name) < 1 << 53 for name in device.counts)
    json.dumps(told.traffic(told.parse(answer)), allow_nan=False)


@given(st.dictionaries(st.just("packets"), values))
def test_a_count_is_a_count(answer: dict[str, Any]) -> None:
    assert 0 <= told.count(answer, "packets") < 1 << 53
