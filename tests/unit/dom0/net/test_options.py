"""Descriptions go through JSON and come back the same."""

import json

import pytest

from xenion.dom0.net.options import NetOptions, WireOptions


def test_a_vif() -> None:
    made = NetOptions(mac="00:16:3e:00:00:01", addresses=("10.0.0.1",), rate_bytes=5, queues=2, mtu=65520)
    assert NetOptions.of(json.loads(json.dumps(made.describe()))) == made
    assert NetOptions.of({"mac": "00:16:3e:00:00:01"}).anti_spoofing


def test_a_wire() -> None:
    made = WireOptions(kind="stream", fd=9, acknowledge_syn_ack=True)
    assert WireOptions.of(json.loads(json.dumps(made.describe()))) == made


def test_an_unknown_word_is_a_mistake() -> None:
    with pytest.raises(TypeError):
        WireOptions.of({"kind": "tap", "fd": 3, "speed": "fast"})
