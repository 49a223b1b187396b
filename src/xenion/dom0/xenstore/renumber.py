"""A restored domain that has another id than it knows itself by: what it says to the store, and hears, is translated.

The two ids are swapped, so that the guest can still name the domain that has the one it knows. Paths are those of a
domain's home and of its back ends (docs/misc/xenstore-paths.pandoc); what makes no sense passes, and the store refuses
it.
"""

import re
from collections.abc import Iterable

from xenion.abi.errno import Errno
from xenion.abi.io.xs_wire import XENSTORE_PAYLOAD_MAX, XsdSockmsgType
from xenion.dom0.xenstore.trees import KeptNode
from xenion.dom0.xenstore.wire import Message

_READ, _WRITE = int(XsdSockmsgType.READ), int(XsdSockmsgType.WRITE)
_GET_PERMS, _SET_PERMS = int(XsdSockmsgType.GET_PERMS), int(XsdSockmsgType.SET_PERMS)
_GET_DOMAIN_PATH, _ERROR = int(XsdSockmsgType.GET_DOMAIN_PATH), int(XsdSockmsgType.ERROR)
_OF_A_PATH = {
    int(kind)
    for kind in (
        XsdSockmsgType.DIRECTORY,
        XsdSockmsgType.DIRECTORY_PART,
        XsdSockmsgType.READ,
        XsdSockmsgType.GET_PERMS,
        XsdSockmsgType.WRITE,
        XsdSockmsgType.MKDIR,
        XsdSockmsgType.RM,
        XsdSockmsgType.SET_PERMS,
        XsdSockmsgType.WATCH,
        XsdSockmsgType.UNWATCH,
    )
}
"""Requests whose payload begins with a path."""
_NAME = rb"[A-Za-z0-9_@-]+"
_HOME, _BACK_ENDS = rb"/local/domain/", rb"/local/domain/0/backend/" + _NAME + rb"/"
_ENTRY = re.compile(rb"([nrwb])([0-9]{1,5})")
_NUMBER = re.compile(rb"([0-9]{1,10})\0")


class Renumbering:
    """Of the ids `known_as`, by which the guest knows itself, and `domid`, by which the store does."""

    def __init__(self, known_as: int, domid: int) -> None:
        inside, outside = b"%d" % known_as, b"%d" % domid
        self._other = {inside: outside, outside: inside}
        one = rb"(%s|%s)" % (inside, outside)
        before = rb"(" + _HOME + rb"|" + _BACK_ENDS + rb"|@(?:introduce|release)Domain/)"
        self._path = re.compile(before + one + rb"((?:/" + _NAME + rb")*)")
        self._holds_id = re.compile(
            rb"(?:%s%s/)?domid|%s%s/%s/frontend-id" % (_HOME, one, _BACK_ENDS, one, _NAME)
        )

    # --- messages

    def outward(self, request: Message) -> Message:
        """The guest's request as the store is to see it; it may be too long for a message then."""
        kind, payload = request.type, request.payload
        if kind == _GET_DOMAIN_PATH and (found := _NUMBER.fullmatch(payload)):
            return request._replace(payload=self._id(found[1]) + b"\0")
        path, end, rest = payload.partition(b"\0")
        if kind not in _OF_A_PATH or not end:
            return request
        if kind == _WRITE:
            rest = self.path(rest)
        elif kind == _SET_PERMS:
            rest = self.perms(rest)
        return request._replace(payload=self.path(path) + end + rest)

    def inward(self, request: Message, reply: Message) -> Message:
        """The store's reply as the guest is to see it, whose request that was. One that is too long then is E2BIG, as
        the store itself has it."""
        if reply.type != request.type:
            return reply
        payload = reply.payload
        if reply.type == _READ:
            payload = self.value(request.payload.removesuffix(b"\0"), payload)
        elif reply.type == _GET_PERMS:
            payload = self.perms(payload)
        elif reply.type == _GET_DOMAIN_PATH:
            payload = self._first(payload)
        return reply._replace(payload=payload) if len(payload) <= XENSTORE_PAYLOAD_MAX else too_long(request)

    def event(self, event: Message) -> Message | None:
        """A watch event as the guest is to see it; None for one that is too long then, which the store drops, too."""
        payload = self._first(event.payload)
        return event._replace(payload=payload) if len(payload) <= XENSTORE_PAYLOAD_MAX else None

    # --- what is in them; each is its own reverse

    def path(self, path: bytes) -> bytes:
        """What is no path, or another one, stays as it is."""
        found = self._path.fullmatch(path)
        return path if found is None else found[1] + self._id(found[2]) + found[3]

    def value(self, path: bytes, value: bytes) -> bytes:
        """Of the node `path`: an id if it holds one, else a path if that is all of it."""
        if value in self._other and self._holds_id.fullmatch(path):
            return self._other[value]
        return self.path(value)

    def perms(self, entries: bytes) -> bytes:
        """As SET_PERMS takes them."""
        return b"\0".join([self._entry(entry) for entry in entries.split(b"\0")])

    def _entry(self, entry: bytes) -> bytes:
        found = _ENTRY.fullmatch(entry)
        return entry if found is None else found[1] + self._id(found[2])

    def _id(self, digits: bytes) -> bytes:
        return self._other.get(digits.lstrip(b"0"), digits)

    def _first(self, payload: bytes) -> bytes:
        path, end, rest = payload.partition(b"\0")
        return self.path(path) + end + rest

    def node(self, node: KeptNode) -> KeptNode:
        path = node.path.encode()
        value, perms = self.value(path, node.value), self.perms(node.perms.encode())
        return KeptNode(self.path(path).decode(), value, perms.decode())


def too_long(request: Message) -> Message:
    """The answer to a request that does not fit into a message any more."""
    return request._replace(type=_ERROR, payload=Errno.E2BIG.name.encode() + b"\0")


def renumbered(nodes: Iterable[KeptNode], known_as: int, was: int, domid: int) -> list[KeptNode]:
    """A domain's nodes, written when it had the id `was`, for the same one as `domid`; it knows itself as
    `known_as`."""
    inward, outward = Renumbering(known_as, was), Renumbering(known_as, domid)
    return [outward.node(inward.node(node)) for node in nodes]
