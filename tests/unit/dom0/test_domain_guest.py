"""The errors that a back end gets from a real domain of this process."""

import os
from collections.abc import Iterator

import pytest

from xenion.abi.grant_table import GNTST_bad_gntref, GNTST_general_error
from xenion.dom0.domain_guest import DomainGuest
from xenion.dom0.guest import GrantError, PortError
from xenion.processor.software import SoftwareProcessor
from xenion.vmm.domain import Domain
from xenion.vmm.events import PortState

REF, CLOSED = 9, 10


@pytest.fixture
def domain() -> Iterator[Domain]:
    notify_fd = os.eventfd(0, os.EFD_NONBLOCK)
    made = Domain(
        SoftwareProcessor(),
        domid=7,
        nr_pages=64,
        handle=bytes(16),
        notify_fd=notify_fd,
        console_output=lambda data: None,
    )
    made.grants.set(REF, 0, made.space.mfn(20))
    yield made
    made.close()
    os.close(notify_fd)


def test_pages(domain: Domain) -> None:
    guest = DomainGuest(domain)
    assert guest.domid == 7
    page = guest.map(REF, write=True)
    page.view[:3] = b"abc"
    guest.wrote([page])
    guest.fence()
    page.unmap()
    assert guest.scatter([(REF, 3, b"def"), (CLOSED, 0, b"x")]) == [0, GNTST_general_error]
    assert guest.gather([(REF, 0, 6)]) == b"abcdef"


def test_grant_that_cannot_be_used_is_named(domain: Domain) -> None:
    guest = DomainGuest(domain)
    with pytest.raises(GrantError) as caught:
        guest.gather([(REF, 0, 6), (CLOSED, 0, 1)])
    assert (caught.value.ref, caught.value.status) == (CLOSED, GNTST_general_error)
    with pytest.raises(GrantError) as caught:
        guest.map(1 << 31, write=False)
    assert (caught.value.ref, caught.value.status) == (1 << 31, GNTST_bad_gntref)


def test_ports(domain: Domain) -> None:
    guest, calls = DomainGuest(domain), []
    with pytest.raises(PortError):
        guest.bind(1, print)
    port = guest.bind(domain.events.allocate(PortState.UNBOUND), lambda: calls.append(1))
    domain.events.dispatch()
    assert calls == [1]
    port.notify()
    port.close()
