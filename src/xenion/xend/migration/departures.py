"""Which domains may have left this host, and where to: STATE/departures.json. A domain's record says so too, but is
gone with the host's end; whoever starts a domain after that has to ask first."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from xenion.xend.storage import read_json, sound, write_json


class Departures:
    """By UUID: what a record's `leaving` has."""

    def __init__(self, state: Path) -> None:
        """OSError."""
        self._path = state / "departures.json"
        self._known: dict[str, dict[str, Any]] = {}
        with suppress(FileNotFoundError), sound(self._path):
            self._known = {uuid: dict(values) for uuid, values in read_json(self._path).items()}

    def get(self, uuid: str) -> Mapping[str, Any] | None:
        return self._known.get(uuid)

    def uuids(self) -> list[str]:
        return list(self._known)

    def add(self, uuid: str, leaving: Mapping[str, Any]) -> None:
        """It is on the disk when this returns. OSError: it is not known here."""
        known = {**self._known, uuid: dict(leaving)}
        write_json(self._path, known, durable=True)
        self._known = known

    def remove(self, uuid: str) -> None:
        """Off the disk when this returns; one that is not there is fine. OSError: the next xend asks once more."""
        if self._known.pop(uuid, None) is not None:
            write_json(self._path, self._known, durable=True)
