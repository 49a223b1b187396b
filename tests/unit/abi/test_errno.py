"""errno.h against the host's numbers, which Xen took from Linux."""

import errno as host

import pytest

from xenion.abi.errno import Errno


@pytest.mark.parametrize("name", Errno.__members__)
def test_value_is_the_hosts(name: str) -> None:
    assert Errno[name] == getattr(host, name)


def test_aliases() -> None:
    assert Errno["EWOULDBLOCK"] is Errno(11)
    assert Errno["EDEADLOCK"] is Errno(35)
    assert len(Errno.__members__) == 51
