import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.config.attempts import attempt
from tests.unit.config.strategies import disks
from xenion.config.disk import Disk, Format
from xenion.config.errors import ConfigError

WHOLE = {
    "target": "/a",
    "vdev": "xvda",
    "format": "raw",
    "writable": True,
    "cdrom": False,
    "overlay": False,
    "sector_bytes": 512,
    "discard": True,
    "persistent_grants": False,
    "limit_bytes": 0,
    "limit_requests": 0,
}


def test_plain_values() -> None:
    assert Disk(target="/a", vdev="xvda").to_mapping() == WHOLE
    assert Disk(target="/a", vdev="xvda").devid == 51712


@given(disks)
def test_a_mapping_brings_back_the_same(disk: Disk) -> None:
    assert Disk.from_mapping(disk.to_mapping()) == disk


def test_what_a_mapping_leaves_out() -> None:
    assert Disk.from_mapping({"target": "/a", "vdev": "d0"}) == Disk(target="/a", vdev="xvda")
    url = "nbd://h/x"
    assert Disk.from_mapping({"target": url, "vdev": "xvda"}).format is Format.NBD
    assert not Disk.from_mapping({"target": "/a.iso", "vdev": "xvda", "cdrom": True}).writable


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"target": ""}, "target is missing"),
        ({"target": "a"}, "target must be an absolute path, not 'a'"),
        ({"target": "/\0"}, "zero character"),
        ({"target": "/" + "x" * 5000}, "at most 4095 bytes"),
        ({"target": 1}, "target must be text"),
        ({"vdev": "vda"}, "'vda' is no virtual disk"),
        ({"vdev": 51712}, "vdev must be text"),
        ({"format": "vhd"}, "format must be one of raw, qcow2, nbd"),
        ({"format": "nbd"}, "format nbd needs an NBD URL"),
        ({"target": "nbd://h/", "format": "qcow2"}, "format is nbd for an NBD URL, not qcow2"),
        ({"target": "nbd://"}, "target must be written as nbd://"),
        ({"target": "nbd://h:0/x"}, "target must be written as nbd://"),
        ({"target": "nbd://h:65536/x"}, "target must be written as nbd://"),
        ({"target": "nbd://h/x?y"}, "target must be written as nbd://"),
        ({"target": "nbd://u@h/x"}, "target must be written as nbd://"),
        ({"target": "nbd+unix:///x"}, "target must be written as nbd://"),
        ({"target": "nbd+unix://h/x?socket=/s"}, "target must be written as nbd://"),
        ({"target": "nbd+unix:///x?socket=s"}, "target must be written as nbd://"),
        ({"target": "nbds://h/x"}, "over TLS, which is not supported"),
        ({"target": "nbd://h/" + "x" * 3000}, "at most 2048 bytes"),
        ({"cdrom": True, "writable": True}, "a CD-ROM is read-only"),
        ({"cdrom": 1}, "cdrom must be true or false, not 1"),
        ({"overlay": True, "writable": False}, "an overlay is for a disk that the guest writes"),
        ({"target": "", "cdrom": True, "format": "qcow2"}, "format is raw for an empty drive"),
        ({"sector_bytes": 2048}, "sector_bytes must be 512 or 4096, not 2048"),
        ({"sector_bytes": True}, "sector_bytes must be a whole number"),
        ({"limit_bytes": -1}, "limit_bytes must be from 0 to"),
        ({"limit_requests": 1 << 60}, "limit_requests must be from 0 to"),
        ({"size": 1}, "'size' is not a key of a disk"),
    ],
)
def test_what_is_no_disk(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Disk.from_mapping({"target": "/a", "vdev": "xvda", **values}, "disk 3")
    assert str(caught.value).startswith("disk 3: ")
    assert sentence in str(caught.value)
    assert caught.value.key == "disk"


@pytest.mark.parametrize("values", [None, [], "x", {}, {"target": "/a"}, {"vdev": "xvda"}])
def test_what_is_no_object_of_one(values: object) -> None:
    with pytest.raises(ConfigError, match=r"^disk: "):
        Disk.from_mapping(values)


@given(
    st.sampled_from(sorted(WHOLE)),
    st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text()),
)
def test_random_values_raise_nothing_else(key: str, value: object) -> None:
    disk = attempt(lambda: Disk.from_mapping({**WHOLE, key: value}), "disk")
    if disk is not None:
        assert Disk.from_mapping(disk.to_mapping()) == disk


def test_a_cd_is_changed() -> None:
    drive = Disk(target="", vdev="hdc", cdrom=True, writable=False)
    inserted = drive.holding("/a.iso")
    assert (inserted.target, inserted.format) == ("/a.iso", Format.RAW)
    assert inserted.holding("nbd://h/cd").format is Format.NBD
    assert inserted.holding("nbd://h/cd").holding("") == drive
    with pytest.raises(ConfigError, match="absolute path"):
        drive.holding("a")
    with pytest.raises(ConfigError, match="xvda is not a CD-ROM"):
        Disk(target="/a", vdev="xvda").holding("/b")
