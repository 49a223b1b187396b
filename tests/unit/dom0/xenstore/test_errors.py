"""How refusals reach the client."""

from xenion.abi.errno import Errno
from xenion.dom0.xenstore.errors import StoreError


def test_an_error_has_its_protocol_name_and_a_reason() -> None:
    error = StoreError(Errno.ENOENT, "no node /x")
    assert (error.name, str(error)) == ("ENOENT", "ENOENT: no node /x")


def test_what_the_protocol_cannot_carry_is_einval() -> None:
    assert StoreError(Errno.ENODEV, "no such thing").name == "EINVAL"
