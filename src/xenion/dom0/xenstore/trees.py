"""Whole trees of the store, read for a domain that is saved and written for one that is restored."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from xenion.abi.errno import Errno
from xenion.dom0.xenstore.client import Answer, StoreClient
from xenion.dom0.xenstore.errors import StoreError

NODES = 10_000
"""More than a domain may have."""


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
    """One node after the other: its value, its permissions, its children."""

    def __init__(
        self,
        client: StoreClient,
        roots: Sequence[str],
        then: Callable[[list[KeptNode] | TreesError], None],
    ) -> None:
        self._client, self._then = client, then
        self._todo = deque(roots)
        self._found: list[KeptNode] = []
        self._go_on()

    def _go_on(self) -> None:
        if not self._todo:
            self._then(self._found)
        elif len(self._found) + len(self._todo) > NODES:
            self._then(TreesError("the domain has too many nodes in the store"))
        else:
            self._read(self._todo.popleft())

    def _read(self, path: str) -> None:
        answers: list[Answer] = []
        self._client.read(path, answers.append)
        self._client.perms(path, answers.append)
        self._client.directory(path, lambda answer: self._answered(path, [*answers, answer]))

    def _answered(self, path: str, answers: Sequence[Answer]) -> None:
        refusal = next((answer for answer in answers if isinstance(answer, StoreError)), None)
        if refusal is not None and refusal.errno != Errno.ENOENT:
            self._then(TreesError(f"the store does not tell of {path} ({refusal.errno.name})"))
            return
        value, perms, names = (b"" if isinstance(answer, StoreError) else answer for answer in answers)
        if refusal is None:
            self._found.append(KeptNode(path, value, perms.decode("latin-1")))
            self._todo += [f"{path}/{name.decode('latin-1')}" for name in names.split(b"\0")[:-1]]
        self._go_on()
