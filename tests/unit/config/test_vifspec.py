from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.config.attempts import attempt
from tests.unit.config.strategies import vifs
from xenion.config.errors import ConfigError
from xenion.config.vif import Attachment, Forward, Vif
from xenion.config.vifspec import read_vif, write_vif

MAC = "00:16:3e:74:3d:76"


def forward(host_port: int, guest_port: int, protocol: str = "tcp", host: str = "127.0.0.1") -> Forward:
    return Forward(protocol=protocol, host_address=host, host_port=host_port, guest_port=guest_port)


def bridged(name: str = "xenbr0", **values: Any) -> Vif:
    return Vif(attachment=Attachment.BRIDGE, network=name, **values)


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("", Vif()),
        (" ", Vif()),
        (",", Vif()),
        ("user", Vif()),
        ("bridge=", Vif()),
        (f"mac={MAC.upper()},bridge=xenbr0", bridged(mac=MAC)),
        (f" mac={MAC} , bridge=xenbr0 ", bridged(mac=MAC)),
        ("ip=10.0.0.1", Vif(addresses=("10.0.0.1",))),
        ("ip=10.0.0.1 10.0.0.2  fe80::1", Vif(addresses=("10.0.0.1", "10.0.0.2", "fe80::1"))),
        ("ip=10.0.0.1,ip=10.0.0.2", Vif(addresses=("10.0.0.1", "10.0.0.2"))),
        ("ip=10.0.0.1/32,ip=FE80::1/128", Vif(addresses=("10.0.0.1", "fe80::1"))),
        ("rate=10Mb/s", Vif(rate_bytes=1_250_000)),
        ("rate=10Mb/s@50ms", Vif(rate_bytes=1_250_000)),
        ("rate=1MB/s@20ms", Vif(rate_bytes=1_000_000, rate_window_us=20_000)),
        ("vifname=vif-web", Vif(name="vif-web")),
        ("backend=0,type=vif,trusted,script=", Vif()),
        ("devid=3", Vif()),
        ("isolated=lab", Vif(attachment=Attachment.ISOLATED, network="lab")),
        ("network=nat0", Vif(attachment=Attachment.NETWORK, network="nat0")),
        ("forward=tcp:8022:22", Vif(forwards=(forward(8022, 22),))),
        (
            "forward=tcp:0.0.0.0:80:8080,forward=udp:[::1]:53:5353",
            Vif(forwards=(forward(80, 8080, host="0.0.0.0"), forward(53, 5353, "udp", "::1"))),
        ),
        ("nospoofcheck,queues=4", Vif(anti_spoofing=False, multiqueue=4)),
    ],
)
def test_every_form(spec: str, found: Vif) -> None:
    assert read_vif(spec, place=3) == (found, ())


def test_on_a_command_line_each_word_is_a_part() -> None:
    assert read_vif(f"mac={MAC}", "bridge=xenbr0")[0] == bridged(mac=MAC)
    assert read_vif()[0] == Vif()


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("bridge", "'bridge' is not known"),
        ("brigde=x", "'brigde' is not known: there is mac, rate, vifname, queues, bridge, isolated, network"),
        ("mac=zz", "mac must be six pairs"),
        ("mac=01:00:00:00:00:00", "a group's address"),
        (f"mac={MAC},mac={MAC}", "mac is given twice"),
        ("bridge=a,network=b", "bridge and network exclude each other"),
        ("isolated=a,user", "isolated and user exclude each other"),
        ("bridge=a b", "bridge must be a bridge's name"),
        ("ip=10.0.0.0/24", "ip must be addresses, not a network such as '10.0.0.0/24'"),
        ("ip=host", "'host' is no IP address"),
        ("rate=1MB", "rate must be written as 10Mb/s or 1MB/s@20ms"),
        ("rate=1MB/s@1us", "rate_window_us must be from 1000"),
        ("forward=8022:22", "forward must be written as tcp:[ADDRESS:]HOSTPORT:GUESTPORT"),
        ("forward=tcp:::1:80:80", "forward must be written as"),
        ("forward=tcp:0:80", "host_port must be from 1"),
        ("forward=tcp:80:99999", "guest_port must be from 1"),
        ("forward=tcp:300.0.0.1:80:80", "'300.0.0.1' is no IP address"),
        ("forward=tcp:80:80,bridge=xenbr0", "forward is for the user network, not for bridge"),
        ("queues=many", "queues must be a whole number"),
        ("backend=net", "backend must be Domain-0: no other domain serves interfaces"),
        ("vlan=5", "vlan is not supported: give the bridge of that VLAN"),
        ("devid=2", "devid is the interface's place among the domain's, from 0"),
        ("colo_filter_mirror_queue=x", "colo_filter_mirror_queue is not supported"),
        ("forwarddev=x", "forwarddev is not supported"),
    ],
)
def test_what_is_no_interface(spec: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_vif(spec, place=3)
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("vif ")
    assert caught.value.key == "vif"


def test_a_hot_attached_one_has_no_place_to_ask_for() -> None:
    with pytest.raises(ConfigError, match="devid is the interface's place"):
        read_vif("devid=0")


@pytest.mark.parametrize(
    ("spec", "notes"),
    [
        ("type=ioemu,model=e1000", ["type", "model"]),
        ("type=netfront", []),
        ("script=vif-bridge,bridge=xenbr0", ["script"]),
        ("gatewaydev=eth0,netdev=eth0", ["gatewaydev", "netdev"]),
        (
            "mtu=9000,be_mac=x,accel=y,policy=z,label=w,untrusted",
            ["mtu", "be_mac", "accel", "policy", "label", "untrusted"],
        ),
    ],
)
def test_what_has_no_effect_is_noted(spec: str, notes: list[str]) -> None:
    found = read_vif(spec)[1]
    assert [note.split(" ")[1] for note in found] == notes
    assert all(" has no effect: " in note for note in found)


@given(vifs)
def test_what_is_written_reads_back_as_the_same(made: Vif) -> None:
    assert read_vif(write_vif(made)) == (made, ())


words = st.sampled_from(
    [
        *(
            "mac=",
            MAC,
            "bridge=",
            "user",
            "isolated=",
            "x",
            "ip=",
            "10.0.0.1",
            "::1",
            "rate=",
            "1MB/s",
            "@5ms",
            ",",
            ",",
        ),
        *(
            ",",
            "forward=",
            "tcp:",
            "80",
            ":",
            "=",
            " ",
            "nospoofcheck",
            "queues=",
            "type=",
            "vifname=",
            "devid=",
            "0",
        ),
    ]
)


@given(st.text() | st.lists(words, max_size=12).map("".join))
@example("ip=\u0661.1.1.1")
@example("forward=tcp:1.:1:1")
@example("forward=tcp:[:]:1:1")
def test_random_text_raises_nothing_else(spec: str) -> None:
    if (found := attempt(lambda: read_vif(spec, place=0), "vif")) is not None:
        made, notes = found
        assert Vif.from_mapping(made.to_mapping()) == made
        assert read_vif(write_vif(made))[0] == made
        assert all(note.isprintable() for note in notes)
