"""Which migrations have come to this host for good: STATE/arrivals.json, the newest ones. What is in there runs here
and nowhere else, whatever becomes of the connection, of this xend, or of the host.

The file has a name of its own, which a source learns before anything comes: "unknown" counts only from who would know.
"""

import secrets
from contextlib import suppress
from pathlib import Path

from xenion.xend.storage import read_json, sound, write_json

KEPT = 1000


class Arrivals:
    def __init__(self, state: Path) -> None:
        """OSError."""
        self._path = state / "arrivals.json"
        self._ledger, self._written = secrets.token_hex(16), False
        self._known: dict[str, str] = {}
        with suppress(FileNotFoundError), sound(self._path):
            values = read_json(self._path)
            self._ledger = str(values["ledger"])
            self._known = {str(word): str(uuid) for word, uuid in values["known"].items()}
            self._written = True

    @property
    def ledger(self) -> str:
        """The file's name, which is on the disk. OSError."""
        if not self._written:
            self._write()
        return self._ledger

    def __contains__(self, word: str) -> bool:
        return word in self._known

    def uuid(self, word: str) -> str:
        """Of one that is in here."""
        return self._known[word]

    def add(self, word: str, uuid: str) -> None:
        """It is on the disk when this returns. OSError: it is not known here."""
        before, self._known = self._known, {**self._known, word: uuid}
        try:
            self._write()
        except OSError:
            self._known = before
            with suppress(OSError):
                self._write()  # the new one may have its place already
            raise

    def remove(self, word: str) -> None:
        """One that has never run. OSError: the next xend may know it still."""
        del self._known[word]
        self._write()

    def _write(self) -> None:
        """OSError."""
        known = dict(list(self._known.items())[-KEPT:])
        write_json(self._path, {"ledger": self._ledger, "known": known}, durable=True)
        self._written = True
