"""What became of domains that are gone: RUN/outcomes/UUID.json, the newest ones."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

from xenion.xend.storage import folder_of_files, read_json, write_json

KEPT = 500


class Outcomes:
    """Written before a domain's folder goes, so that whoever waits finds one or the other."""

    def __init__(self, run: Path) -> None:
        """OSError."""
        self._folder = folder_of_files(run / "outcomes")
        self._requests: OrderedDict[str, str] = OrderedDict()
        """UUID -> the request's word, the newest last."""
        for path in sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns):
            self._requests[path.stem] = (_read(path) or {}).get("request", "")

    def put(self, uuid: str, values: dict[str, Any]) -> None:
        """`values`: an Outcome, and what a repeated request is answered with. OSError."""
        write_json(self._path(uuid), values)
        self._requests[uuid] = values.get("request", "")
        self._requests.move_to_end(uuid)
        while len(self._requests) > KEPT:
            self._path(self._requests.popitem(last=False)[0]).unlink(missing_ok=True)

    def get(self, uuid: str) -> dict[str, Any] | None:
        return _read(self._path(uuid)) if uuid in self._requests else None

    def of_request(self, word: str) -> dict[str, Any] | None:
        """The domain that a request with this word had made."""
        uuid = next((uuid for uuid, request in reversed(self._requests.items()) if request == word), None)
        return self.get(uuid) if uuid is not None and word else None

    def _path(self, uuid: str) -> Path:
        return self._folder / f"{uuid}.json"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return dict(read_json(path))
    except (OSError, ValueError, TypeError):
        return None
