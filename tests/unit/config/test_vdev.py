import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.config.strategies import devids
from xenion.config.errors import ConfigError
from xenion.config.vdev import canonical, devid_of, name_of

NUMBERED = [
    ("xvda", 51712),
    ("xvda1", 51713),
    ("xvda15", 51727),
    ("xvda16", 1 << 28 | 16),
    ("xvdb", 51728),
    ("xvdp", 51952),
    ("xvdp15", 51967),
    ("xvdq", 1 << 28 | 16 << 8),
    ("xvdz", 1 << 28 | 25 << 8),
    ("xvdaa", 1 << 28 | 26 << 8),
    ("xvdtq37", 1 << 28 | 536 << 8 | 37),
    ("xvdbgqcv255", (2 << 28) - 1),
    ("hda", 768),
    ("hda63", 831),
    ("hdb", 832),
    ("hdc2", 5634),
    ("hdd", 5696),
    ("sda", 2048),
    ("sdb3", 2067),
    ("sdp15", 2303),
]


@pytest.mark.parametrize(("name", "devid"), NUMBERED)
def test_names_and_numbers(name: str, devid: int) -> None:
    """As xen-vbd-interface(7) has them."""
    assert devid_of(name) == devid
    assert name_of(devid) == name
    assert (
        canonical(name) == canonical(str(devid)) == canonical(hex(devid)) == canonical(f"0{devid:o}") == name
    )


@given(devids)
def test_a_number_comes_back(devid: int) -> None:
    assert devid_of(name_of(devid)) == devid


@given(st.integers(-(1 << 40), 1 << 40))
def test_a_number_has_a_name_of_that_number_or_none(devid: int) -> None:
    try:
        name = name_of(devid)
    except ConfigError:
        return
    assert devid_of(name) == devid


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("d0", "xvda"),
        ("d0p0", "xvda"),
        ("d1p2", "xvdb2"),
        ("d536p37", "xvdtq37"),
        ("/dev/xvdb1", "xvdb1"),
        ("ioemu:hda", "hda"),
        ("0x803", "sda3"),
    ],
)
def test_other_ways_to_write_it(text: str, name: str) -> None:
    assert canonical(text) == name
    with pytest.raises(ConfigError, match="is no virtual disk"):
        devid_of(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "xvd",
            "xvda0",
            "xvda01",
            "xvda256",
            "xvdA",
            "xvda ",
            "xvda\n",
            "vda",
            "hde",
            "hda64",
            "sdq",
            "sda16",
        ),
        *(
            "d1048576",
            "d0p256",
            "dp",
            "0",
            "-1",
            "1",
            "09",
            "0x",
            "99999999999",
            "268435456",
            "cdrom",
            "xvd\u0430",
        ),
        *("xvdbgqcw", "xvdzzzzz", "hdc:cdrom", "/dev/", "sr0", "/dev//dev/xvda"),
    ],
)
def test_what_is_no_virtual_disk(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        canonical(text)
    assert "write xvda, xvdb and so on" in str(caught.value)


@given(st.text() | st.from_regex(r"(xvd|hd|sd|d)[a-z0-9p]{0,9}", fullmatch=True))
def test_any_text_is_a_disk_or_refused(text: str) -> None:
    try:
        name = canonical(text)
    except ConfigError:
        return
    assert canonical(name) == name
    assert name_of(devid_of(name)) == name
