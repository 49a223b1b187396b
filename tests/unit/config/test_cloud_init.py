from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.config.attempts import attempt
from tests.unit.config.strategies import cloud_inits
from xenion.config.cloud_init import CloudInit
from xenion.config.errors import ConfigError

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGX me@laptop"
WHOLE = {
    "user_data": "/u",
    "meta_data": None,
    "network_config": "/n",
    "hostname": "web.lan",
    "ssh_keys": [KEY],
}


def test_plain_values() -> None:
    made = CloudInit(user_data=Path("/u"), network_config=Path("/n"), hostname="web.lan", ssh_keys=(KEY,))
    assert made.to_mapping() == WHOLE
    assert CloudInit.from_mapping(WHOLE) == made
    assert CloudInit.from_mapping({}) == CloudInit()


@given(cloud_inits)
def test_a_mapping_brings_back_the_same(made: CloudInit) -> None:
    assert CloudInit.from_mapping(made.to_mapping()) == made


@pytest.mark.parametrize(
    "key",
    [
        KEY,
        "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY=",
        "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29t a b",
        f'restrict,command="echo a b" {KEY}',
    ],
)
def test_keys_as_authorized_keys_has_them(key: str) -> None:
    assert CloudInit(ssh_keys=(key,)).ssh_keys == (key,)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"user_data": "u"}, "cloud_user_data must be an absolute path"),
        ({"user_data": 5}, "user_data must be text"),
        ({"network_config": "/\0"}, "cloud_network_config holds a zero"),
        ({"hostname": "a_b"}, "cloud_hostname must be a host name"),
        ({"hostname": "-a"}, "cloud_hostname must be a host name"),
        ({"hostname": "a."}, "cloud_hostname must be a host name"),
        ({"hostname": "a\n"}, "cloud_hostname must be a host name"),
        ({"hostname": "a" * 64}, "cloud_hostname must be a host name"),
        ({"hostname": ".".join(["a" * 60] * 5)}, "cloud_hostname must be a host name"),
        ({"ssh_keys": KEY}, "ssh_keys must be a list"),
        ({"ssh_keys": ["~/.ssh/id.pub"]}, "cloud_ssh_keys must be public keys"),
        ({"ssh_keys": [f"{KEY}\n{KEY}"]}, "cloud_ssh_keys must be public keys"),
        ({"ssh_keys": [""]}, "cloud_ssh_keys must be public keys"),
        ({"ssh_keys": [f"{KEY} {'x' * 17000}"]}, "at most 16384 bytes"),
        ({"ssh_keys": [KEY] * 101}, "more than 100 keys"),
        ({"meta_data": "/m"}, "cloud_meta_data and cloud_hostname exclude each other"),
        ({"meta_data": "/m", "hostname": ""}, "cloud_meta_data and cloud_ssh_keys exclude each other"),
        ({"vendor_data": "/v"}, "'vendor_data' is not a key of cloud_init"),
    ],
)
def test_what_is_none(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=r"^cloud_init: ") as caught:
        CloudInit.from_mapping({**WHOLE, **values})
    assert sentence in str(caught.value)
    assert caught.value.key == "cloud_init"


@given(st.sampled_from(sorted(WHOLE)), st.none() | st.booleans() | st.text() | st.lists(st.text()))
def test_random_values_raise_nothing_else(key: str, value: object) -> None:
    made = attempt(lambda: CloudInit.from_mapping({**WHOLE, key: value}), "cloud_init")
    if made is not None:
        assert CloudInit.from_mapping(made.to_mapping()) == made
