"""The frame that tells where an interface is."""

from hypothesis import given
from hypothesis import strategies as st

from xenion.dom0.net.announce import announcement

MAC = "00:16:3e:5a:0b:ff"


def test_the_frame() -> None:
    """RFC 903: who asks for its own address by its own hardware address, in an Ethernet frame to all."""
    own = bytes.fromhex("00163e5a0bff")
    assert announcement(MAC) == (
        b"\xff\xff\xff\xff\xff\xff" + own + b"\x80\x35"
        + b"\x00\x01" + b"\x08\x00" + b"\x06\x04" + b"\x00\x03"
        + own + b"\0\0\0\0" + own + b"\0\0\0\0"
        + bytes(18)
    )  # fmt: skip


@given(st.binary(min_size=6, max_size=6))
def test_any_address(own: bytes) -> None:
    frame = announcement(":".join(f"{byte:02x}" for byte in own))
    assert len(frame) == 60, "the shortest that Ethernet carries"
    assert (frame[:6], frame[6:12], frame[22:28], frame[32:38]) == (b"\xff" * 6, own, own, own)
    assert frame == announcement(":".join(f"{byte:02X}" for byte in own))
