"""A domain's two clients."""

from xenion.dom0.xenstore.domains import Domain, is_real
from xenion.dom0.xenstore.quota import Quota


def test_its_two_clients() -> None:
    domain = Domain(5, "five", Quota(nodes=7))
    assert (domain.guest.domid, domain.guest.privileged, domain.guest.quota.nodes) == (5, False, 7)
    assert (domain.process.domid, domain.process.privileged, domain.process.limited) == (0, True, True)
    assert domain.connections == (domain.guest, domain.process)
    assert domain.guest.name != domain.process.name


def test_real_domains() -> None:
    assert [is_real(domid) for domid in (-1, 0, 1, 0x7FEF, 0x7FF0, 0xFFFF)] == [
        False,
        False,
        True,
        True,
        False,
        False,
    ]
