"""Whole trees of the store, read for a domain that is saved and written for one that is restored."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from xenion.abi.errno import Errno
from xenion.dom0.xenstore.client import Answer, StoreClient
from xenion.dom0.xenstore.errors import StoreError

NODES = 10_000
"""More than a domain may have."""
AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class KeptNode:
    """`perms` as SET_PERMS takes them."""

    path: str
    value: bytes
    perms: str


class TreesError(Exception):
    """The trees cannot be read; the message says why."""


def read_trees(
    client: StoreClient, roots: Sequence[str], then: Callable[[list[KeptNode] | TreesError], None]
) -> None:
    """`then` gets all nodes of the trees, parents before children, or why not; roots that are missing are none."""
    _Reader(client, roots, then)


def write_trees(client: StoreClient, roots: Iterable[str], nodes: Iterable[KeptNode]) -> None:
    """What was in these trees goes."""
    for root in roots:
        client.remove(root)
    for node in nodes:
        client.write(node.path, node.value)
        client.set_perms(node.path, node.perms)


class _Reader:
    """Of each node its value, its permissions, its children; of many at a time."""

    def __init__(
        self,
        client: StoreClient,
        roots: Sequence[str],
        then: Callable[[list[KeptNode] | TreesError], None],
    ) -> None:
        self._client, self._then = client, then
        self._todo = deque(roots)
        self._asked = 0
        self._found: list[KeptNode] = []
        self._over = False
        self._go_on()

    def _go_on(self) -> None:
        if len(self._found) + self._asked + len(self._todo) > NODES:
            self._end(TreesError("the domain has too many nodes in the store"))
        while not self._over and self._todo and self._asked < AT_ONCE:
            self._asked += 1
            self._read(self._todo.popleft())
        if not self._asked and not self._todo:
            self._end(self._found)

    def _end(self, found: list[KeptNode] | TreesError) -> None:
        if not self._over:
            self._over = True
            self._then(found)

    def _read(self, path: str) -> None:
        answers: list[Answer] = []
        self._client.read(path, answers.append)
        self._client.perms(path, answers.append)
        self._client.directory(path, lambda answer: self._answered(path, [*answers, answer]))

    def _answered(self, path: str, answers: Sequence[Answer]) -> None:
        self._asked -= 1
        refusal = next((answer for answer in answers if isinstance(answer, StoreError)), None)
        if refusal is not None and refusal.errno != Errno.ENOENT:
            self._end(TreesError(f"the store does not tell of {path} ({refusal.errno.name})"))
            return
        value, perms, names = (b"" if isinstance(answer, StoreError) else answer for answer in answers)
        if refusal is None:
            self._found.append(KeptNode(path, value, perms.decode("latin-1")))
            self._todo += [f"{path}/{name.decode('latin-1')}" for name in names.split(b"\0")[:-1]]
        self._go_on()
