"""A domain of this process as the guest of its back ends: the VMM's door, with the errors that back ends know."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from xenion.dom0.guest import GrantError, Guest, MappedGrant, Port, PortError
from xenion.vmm.domain import Domain
from xenion.vmm.errors import GuestError
from xenion.vmm.grants import GrantStatusError
from xenion.vmm.guest_door import GrantedPage, GuestDoor


class DomainGuest:
    """See xenion.dom0.guest.Guest."""

    def __init__(self, domain: Domain) -> None:
        self._door = GuestDoor(domain)
        self.domid = domain.domid
        self.fence = self._door.fence
        self.scatter = self._door.copy_to
        self.spread = self._door.spread

    def map(self, ref: int, *, write: bool) -> MappedGrant:
        try:
            return self._door.map(ref, write=write)
        except GrantStatusError as error:
            raise GrantError(ref, error.status) from None

    def wrote(self, pages: Sequence[MappedGrant]) -> None:
        self._door.wrote(cast("Sequence[GrantedPage]", pages))

    def gather(self, parts: Sequence[tuple[int, int, int]]) -> bytes:
        data, statuses = self._door.copy_from(parts)
        for (ref, _, _), status in zip(parts, statuses, strict=True):
            if status:
                raise GrantError(ref, status)
        return data

    def bind(self, port: int, handler: Callable[[], None]) -> Port:
        try:
            return self._door.bind(port, handler)
        except GuestError:
            raise PortError(port) from None


if TYPE_CHECKING:

    def _is_a_guest(domain: Domain) -> Guest:
        return DomainGuest(domain)
