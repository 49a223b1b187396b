"""How a request to the store fails."""

from xenion.abi.errno import Errno
from xenion.abi.io.xs_wire import XSD_ERRORS


class StoreError(Exception):
    """A request was refused; ``name`` is the protocol's error string (io/xs_wire.h: ``xsd_errors``)."""

    def __init__(self, errno: Errno, reason: str) -> None:
        super().__init__(f"{errno.name}: {reason}")
        self.reason = reason
        # An error that the protocol cannot carry reaches the client as EINVAL, as from xenstored.
        self.errno = errno if errno in XSD_ERRORS else Errno.EINVAL
        self.name = self.errno.name
