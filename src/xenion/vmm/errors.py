"""A guest's mistake and our own bug never share a type."""

from xenion.abi.errno import Errno


class GuestError(Exception):
    """The guest asked for something wrong: becomes the hypercall's negative result."""

    def __init__(self, errno: Errno) -> None:
        super().__init__(errno.name)
        self.errno = errno
