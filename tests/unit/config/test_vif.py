from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.config.attempts import attempt
from tests.unit.config.strategies import vif_lists, vifs
from xenion.config import vif as module
from xenion.config.errors import ConfigError
from xenion.config.mac import default_mac
from xenion.config.vif import Attachment, Forward, Vif, address, with_macs

UUID = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
FORWARD = {"protocol": "tcp", "host_address": "127.0.0.1", "host_port": 8022, "guest_port": 22}
WHOLE: dict[str, Any] = {
    "mac": "00:16:3e:00:00:01",
    "attachment": "user",
    "network": "",
    "addresses": ["10.0.0.1", "fe80::1"],
    "rate_bytes": 0,
    "rate_window_us": 50000,
    "forwards": [FORWARD],
    "name": "",
    "multiqueue": 1,
    "anti_spoofing": True,
}


def test_plain_values() -> None:
    made = Vif(
        mac="00:16:3e:00:00:01",
        addresses=("10.0.0.1", "fe80::1"),
        forwards=(Forward(protocol="tcp", host_address="127.0.0.1", host_port=8022, guest_port=22),),
    )
    assert made.to_mapping() == WHOLE
    assert Vif.from_mapping(WHOLE) == made
    assert Vif.from_mapping({}) == Vif()


@given(vifs)
def test_a_mapping_brings_back_the_same(made: Vif) -> None:
    assert Vif.from_mapping(made.to_mapping()) == made


def test_a_mapping_is_put_right() -> None:
    made = Vif.from_mapping(
        {
            "mac": "00:16:3E:AB:CD:EF",
            "addresses": ["FE80:0::1"],
            "forwards": [{"protocol": "udp", "host_port": 53, "guest_port": 53}],
        }
    )
    assert (made.mac, made.addresses, made.forwards[0].host_address) == (
        "00:16:3e:ab:cd:ef",
        ("fe80::1",),
        "127.0.0.1",
    )


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"mac": "x"}, "mac must be six pairs"),
        ({"mac": None}, "mac must be text"),
        ({"attachment": "nat"}, "attachment must be one of user, isolated, bridge, network"),
        ({"network": "x"}, "the user network has no name"),
        ({"attachment": "bridge", "forwards": []}, "bridge must be a bridge's name"),
        ({"attachment": "bridge", "network": "x" * 16, "forwards": []}, "bridge must be a bridge's name"),
        ({"attachment": "bridge", "network": "a/b", "forwards": []}, "bridge must be a bridge's name"),
        ({"attachment": "bridge", "network": "..", "forwards": []}, "bridge must be a bridge's name"),
        ({"attachment": "isolated", "network": "-x", "forwards": []}, "isolated must be a name"),
        (
            {"attachment": "network", "network": "x" * 33, "forwards": []},
            "network must be the name of a network",
        ),
        ({"attachment": "isolated", "network": "lab"}, "forward is for the user network, not for isolated"),
        ({"addresses": ["10.0.0.1/24"]}, "no IP address without a prefix length"),
        ({"addresses": ["fe80::1%eth0"]}, "no IP address"),
        ({"addresses": ["10.0.0.1", "10.0.0.1"]}, "ip gives an address twice"),
        ({"addresses": "10.0.0.1"}, "addresses must be a list"),
        ({"addresses": [f"10.0.0.{n}" for n in range(65)]}, "more than 64 addresses"),
        ({"rate_bytes": -1}, "rate_bytes must be from 0"),
        ({"rate_window_us": 999}, "rate_window_us must be from 1000 to 60000000"),
        ({"forwards": {}}, "forwards must be a list"),
        ({"forwards": [5]}, "a forward must be a JSON object"),
        ({"forwards": [{**FORWARD, "protocol": "sctp"}]}, "protocol must be tcp or udp"),
        ({"forwards": [{**FORWARD, "host_port": 0}]}, "host_port must be from 1 to 65535"),
        ({"forwards": [{**FORWARD, "guest_port": 65536}]}, "guest_port must be from 1 to 65535"),
        ({"forwards": [{**FORWARD, "host_address": "localhost"}]}, "no IP address"),
        (
            {"forwards": [FORWARD, {**FORWARD, "guest_port": 5}]},
            "tcp port 8022 of 127.0.0.1 is forwarded twice",
        ),
        (
            {"forwards": [{**FORWARD, "host_port": 1 + n} for n in range(257)]},
            "more than 256 forwarded ports",
        ),
        ({"name": "a b"}, "vifname must be a network device's name"),
        ({"name": "vif%d"}, "vifname must be a network device's name"),
        ({"multiqueue": 0}, "queues must be from 1 to 16"),
        ({"multiqueue": 17}, "queues must be from 1 to 16"),
        ({"anti_spoofing": 0}, "anti_spoofing must be true or false"),
        ({"bridge": "x"}, "'bridge' is not a key of an interface"),
    ],
)
def test_what_is_no_interface(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Vif.from_mapping({**WHOLE, **values}, "vif 3")
    assert str(caught.value).startswith("vif 3: ")
    assert sentence in str(caught.value)
    assert caught.value.key == "vif"


@given(
    st.sampled_from(sorted(WHOLE)),
    st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text()),
)
def test_random_values_raise_nothing_else(key: str, value: object) -> None:
    made = attempt(lambda: Vif.from_mapping({**WHOLE, key: value}), "vif")
    if made is not None:
        assert Vif.from_mapping(made.to_mapping()) == made


def test_addresses_must_be_as_they_are_usually_written() -> None:
    assert address("FE80:0:0::1") == "fe80::1"
    with pytest.raises(ConfigError, match="ip must be written as fe80::1"):
        Vif(addresses=("FE80::1",))
    with pytest.raises(ConfigError, match="host_address must be written as ::1"):
        Forward(protocol="tcp", host_address="0::1", host_port=1, guest_port=1)


def test_macs_are_made_of_the_uuid_and_the_place() -> None:
    given_, made = with_macs((Vif(mac="00:16:3e:00:00:01"), Vif()), UUID)
    assert (given_.mac, made.mac) == ("00:16:3e:00:00:01", default_mac(UUID, 1))


def test_a_mac_that_is_taken_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "default_mac", lambda uuid, index, attempt=0: f"00:16:3e:00:00:{attempt:02x}")
    found = with_macs((Vif(), Vif(), Vif(mac="00:16:3e:00:00:01")), UUID)
    assert [made.mac[-2:] for made in found] == ["00", "02", "01"]


@given(vif_lists, st.uuids())
def test_each_has_a_mac_of_its_own(several: tuple[Vif, ...], uuid: object) -> None:
    found = with_macs(several, str(uuid))
    assert len({made.mac for made in found}) == len(several)
    assert found == with_macs(several, str(uuid))
    assert all(made.attachment is not Attachment.USER or not made.network for made in found)
