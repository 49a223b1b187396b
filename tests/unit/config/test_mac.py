import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.config.errors import ConfigError
from xenion.config.mac import check_mac, default_mac

UUID = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"


def test_it_is_the_same_for_the_same() -> None:
    """Guests know their interfaces by it, so that it may never change: not with a version of Xenion either."""
    assert default_mac(UUID, 0) == "00:16:3e:1e:db:bf"
    assert len({default_mac(UUID, 0), default_mac(UUID, 1), default_mac(UUID, 0, 1), default_mac("", 0)}) == 4


@given(st.uuids(), st.integers(0, 1 << 20))
def test_it_is_xens_own(uuid: object, index: int) -> None:
    mac = default_mac(str(uuid), index)
    check_mac(mac)
    assert mac.startswith("00:16:3e:")
    assert int(mac[9:11], 16) < 0x80


@pytest.mark.parametrize(
    ("mac", "sentence"),
    [
        ("", "six pairs"),
        ("00:16:3e:00:00", "six pairs"),
        ("00:16:3E:00:00:01", "six pairs"),
        ("00-16-3e-00-00-01", "six pairs"),
        ("00:16:3e:00:00:01\n", "six pairs"),
        ("01:16:3e:00:00:01", "a group's address"),
        ("ff:ff:ff:ff:ff:ff", "a group's address"),
        ("00:00:00:00:00:00", "all zeros"),
    ],
)
def test_what_is_no_mac(mac: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        check_mac(mac)
