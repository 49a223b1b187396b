"""All domains by name, id and UUID: those that have a process, and those that are defined."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xenion.abi.xen import DOMID_FIRST_RESERVED
from xenion.api.errors import ApiError
from xenion.api.folders import Folders
from xenion.config.disk import Disk
from xenion.xend.chronicle import SUCCESSOR
from xenion.xend.live import Live
from xenion.xend.managed import Managed, ManagedDomains
from xenion.xend.record import Record
from xenion.xend.storage import read_json, write_json

DOMAIN_0, UUID_0 = "Domain-0", "00000000-0000-0000-0000-000000000000"
HOST_WORDS = ("0", DOMAIN_0, UUID_0)
"""What means the host."""

DOMID_FIRST, DOMID_END = 1, DOMID_FIRST_RESERVED


class Registry:
    def __init__(self, where: Folders) -> None:
        self.where = where
        self.live: dict[str, Live] = {}
        self.managed = ManagedDomains(where)
        self._coming: dict[str, Record] = {}
        """By UUID: what is being opened for domains that have no process yet."""
        self._closed: dict[str, str] = {}
        """Names of domains that may not start for the moment, and why."""

    # --- finding

    def find(self, word: str) -> Live | Managed:
        """By name, id or UUID. ApiError (no-such-domain)."""
        found = self.find_live(word) or self.managed.get(word) or self.managed.named(word)
        if found is None:
            if word in HOST_WORDS:
                raise ApiError("wrong-state", f"{DOMAIN_0} is the host itself: this cannot be done to it")
            what = f"id {word}" if word.isdecimal() else f'name "{word}"'
            raise ApiError("no-such-domain", f"there is no domain of the {what}")
        return found

    def find_live(self, word: str) -> Live | None:
        """Digits only are always an id: no name is."""
        if word in self.live:
            return self.live[word]
        if word.isdecimal():
            return next((live for live in self.live.values() if str(live.domid) == word), None)
        return next((live for live in self.live.values() if live.name == word), None)

    def need_live(self, word: str) -> Live:
        """One that has a process. ApiError."""
        found = self.find(word)
        if isinstance(found, Managed):
            raise ApiError("wrong-state", f"{found.name} is not running: `xm start {found.name}` starts it")
        return found

    def check_name_is_free(self, name: str, uuid: str = "") -> None:
        """For the domain of this UUID. ApiError (already-exists, wrong-state)."""
        self.check_open(name)
        others = [live for live in self.live.values() if live.uuid != uuid]
        if any(live.name == name or _gives(live, name, uuid) for live in others):
            raise ApiError(
                "already-exists",
                f'a domain "{name}" is running already: end it first, or give this one another name',
            )
        if any(made.name == name and made.uuid != uuid for made in self._coming.values()):
            raise ApiError(
                "already-exists", f'a domain "{name}" is being started: give this one another name'
            )
        managed = self.managed.named(name)
        if managed is not None and managed.uuid != uuid:
            raise ApiError(
                "already-exists",
                f'a managed domain "{name}" is defined: `xm start {name}` starts it, or give this one another name',
            )

    def check_open(self, name: str) -> None:
        """ApiError (wrong-state)."""
        if name in self._closed:
            raise ApiError("wrong-state", f"{self._closed[name]}: try again when that is done")

    # --- coming

    @contextmanager
    def coming(self, made: Record) -> Iterator[None]:
        """Within the block its name, UUID and memory are taken, while it has no process yet."""
        self._coming[made.uuid] = made
        try:
            yield
        finally:
            del self._coming[made.uuid]

    @contextmanager
    def closed(self, name: str, why: str) -> Iterator[None]:
        """Within the block no domain of that name is started; none runs. ApiError (wrong-state, already-exists)."""
        managed = self.managed.named(name)
        self.check_name_is_free(name, managed.uuid if managed is not None else "")
        if managed is not None and self.is_running(managed.uuid):
            raise ApiError("wrong-state", f"{name} is running: end it first")
        self._closed[name] = why
        try:
            yield
        finally:
            del self._closed[name]

    def coming_domids(self) -> set[int]:
        return {made.domid for made in self._coming.values()}

    def is_running(self, uuid: str) -> bool:
        """It has a process, or will in a moment."""
        return uuid in self.live or uuid in self._coming

    # --- memory

    def promised(self) -> list[tuple[int, int | None]]:
        """Of each domain that runs or is being started: what memory it was promised, and its process."""
        running = [
            (max(live.built_mib, live.record.config.most_memory_mib), live.pid) for live in self.live.values()
        ]
        coming = [
            (made.config.most_memory_mib, None)
            for made in self._coming.values()
            if made.uuid not in self.live
        ]
        return [*running, *coming]

    def disks(self) -> dict[str, tuple[Disk, ...]]:
        """Of each domain that runs or is being started, by its name. Any thread."""
        made = [*list(self._coming.values()), *(live.record for live in list(self.live.values()))]
        return {record.name: record.config.disks for record in made}

    # --- ids

    def is_free(self, domid: int) -> bool:
        """No domain has this id."""
        return all(live.domid != domid for live in self.live.values()) and domid not in self.coming_domids()

    def next_domid(self) -> int:
        """Each id once, until there are no more of them; OSError."""
        path = self._counter
        try:
            domid = int(read_json(path))
        except (OSError, ValueError, TypeError):
            domid = DOMID_FIRST
        taken = {live.domid for live in self.live.values()} | {made.domid for made in self._coming.values()}
        domid = max(domid, DOMID_FIRST)
        while domid in taken or domid >= DOMID_END:
            domid = DOMID_FIRST if domid + 1 >= DOMID_END else domid + 1
        write_json(path, domid + 1)
        return domid

    @property
    def _counter(self) -> Path:
        return self.where.run / "next-domid.json"


def _gives(live: Live, name: str, uuid: str) -> bool:
    """Whether its successor, which is not there yet and is not this one, gets this name."""
    made = live.record
    return made.successor == name and SUCCESSOR in made.wants and made.successor_uuid != uuid
