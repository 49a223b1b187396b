"""What is in the JSON of a saved domain; and what somebody else has put there."""

from contextlib import suppress
from dataclasses import astuple
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.vmm.saved_kit import all_of_it, begun, mutate
from xenion.dom0.xenstore.pump import PumpState
from xenion.dom0.xenstore.trees import KeptNode
from xenion.domain.saved.format import SavedFileError
from xenion.domain.saved.state import (
    Head,
    HostDisk,
    HostState,
    MachineState,
    decode,
    encode,
)
from xenion.processor.software.cpuid import LEAVES
from xenion.vmm.saved import capture

HEAD = Head(
    {"memory": 64, "disk": [{"vdev": "xvda"}]},
    "0" * 32,
    7,
    5,
    "gäst",
    "software",
    1e9,
    "0.1.0",
    [astuple(LEAVES[0])],
)
HOST = HostState(True, [HostDisk("xvda", 1 << 40, 1 << 62), HostDisk("xvdb", None, None)])
NODES = [KeptNode("/local/domain/7/name", b"\0\xff", "n0,r7")]
TALK = PumpState(
    requests=bytes(range(256)),
    replies=b"",
    transactions=[1, (1 << 32) - 1],
    last_transaction=5,
    watches=[b"/a\xff\0token\0"],
    failed=False,
)


def machine() -> MachineState:
    with begun(3) as kernel:
        all_of_it(kernel)
        domain = capture(kernel.domain)
    return MachineState(
        domain=domain, nodes=NODES, talk=TALK, console_pfn=5, console_port=1, store_pfn=6, store_port=2, target_mib=64,
        maxmem_mib=128, vcpus=2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def state() -> MachineState:
    return machine()


@pytest.fixture(scope="module")
def encoded(state: MachineState) -> bytes:
    return encode(state)


def test_all_of_it_is_as_it_was(state: MachineState, encoded: bytes) -> None:
    assert decode(encoded, MachineState) == state
    assert decode(encode(HEAD), Head) == HEAD
    assert decode(encode(HOST), HostState) == HOST


def refused(data: bytes, kind: type[msgspec.Struct] = Head) -> str:
    with pytest.raises(SavedFileError) as error:
        decode(data, kind)
    return str(error.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b'{"config":' * 100_000,
        b'{"config":' + b"[" * 100_000,
        b'{"config":{"a":' + b"9" * 5000 + b"}}",
        b'{"config":{"a":1e999}}',
        b'{"config":{"a":"\\ud800"}}',
        b'{"config":{"a":"\xff"}}',
        b'{"config":{"\xff":1}}',
        b'{"name":"\xed\xa0\x80"}',
        b'{"name":"\xc3',
        b'{"\xff":1',
    ],
    ids=lambda data: repr(data[:24]),
)
def test_what_is_no_head(data: bytes) -> None:
    assert refused(data).startswith("it makes no sense (")


@pytest.mark.parametrize(
    "fields",
    [
        {"domid": 0},
        {"domid": -1},
        {"domid": 0x7FF0},
        {"domid": 1 << 64},
        {"domid": 1.5},
        {"domid": "7"},
        {"known_as": 0},
        {"known_as": 0x7FF0},
        {"known_as": None},
        {"processor": None},
        {"config": []},
        {"config": None},
        {"uuid": 5},
        {"name": None},
        {"saved_at": "now"},
    ],
    ids=str,
)
def test_fields_of_the_head(fields: dict[str, Any]) -> None:
    data = msgspec.json.encode(msgspec.to_builtins(HEAD) | fields)
    assert refused(data).startswith("it makes no sense (")


@pytest.mark.parametrize("domid", [1, 0x7FEF])
def test_domids(domid: int) -> None:
    head = msgspec.structs.replace(HEAD, domid=domid, known_as=domid)
    assert decode(encode(head), Head) == head


@pytest.mark.parametrize(
    "fields",
    [
        {"vcpus": 0},
        {"vcpus": 65},
        {"console_pfn": 1 << 32},
        {"console_port": -1},
        {"store_port": None},
        {"target_mib": 1 << 32},
        {"maxmem_mib": 0.5},
        {"domain": {}},
        {"talk": []},
    ],
    ids=str,
)
def test_fields_of_the_machine(fields: dict[str, Any], state: MachineState) -> None:
    data = msgspec.json.encode(msgspec.to_builtins(state) | fields)
    assert refused(data, MachineState).startswith("it makes no sense (")


@pytest.mark.parametrize("size", range(0, 2000, 61))
def test_a_part_of_it(size: int, encoded: bytes) -> None:
    refused(encoded[:size], MachineState)


@settings(max_examples=100)
@given(data=st.data())
def test_fields_that_are_others(data: st.DataObject, encoded: bytes) -> None:
    """It is refused, or is another state that can be written again."""
    tree = msgspec.json.decode(encoded)
    for _ in range(data.draw(st.integers(1, 3))):
        mutate(tree, data)
    try:
        found = decode(msgspec.json.encode(tree), MachineState)
    except SavedFileError:
        return
    assert decode(encode(found), MachineState) == found


@settings(max_examples=100)
@given(at=st.integers(0, 3000), gone=st.integers(0, 20), new=st.binary(max_size=20))
def test_bytes_that_are_others(at: int, gone: int, new: bytes, encoded: bytes) -> None:
    changed = encoded[:at] + new + encoded[at + gone :]
    with suppress(SavedFileError):
        found = decode(changed, MachineState)
        assert decode(encode(found), MachineState) == found


@given(st.binary(max_size=60))
def test_any_bytes(data: bytes) -> None:
    refused(data)
