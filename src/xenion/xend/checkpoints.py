"""Which checkpoints a domain has: STATE/domains/NAME/checkpoints/NAME.json.

The memory of one is in a file: NAME.saved beside it, or where `xm save -c` was told to write it. What its disks were is
kept in their layers, see xenion.xend.disks.layers, under the checkpoint's id.
"""

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from xenion.api import types as t
from xenion.api.errors import ApiError
from xenion.xend.disks.layers import all_layers
from xenion.xend.storage import failing, private_folder, read_json, remove, sound, write_json

CHECKPOINTS = "checkpoints"
NAME_CHARACTERS = 64
_SUFFIX = ".saved"
_BAD = re.compile(r"[^A-Za-z0-9._-]")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Checkpoint(msgspec.Struct, frozen=True):
    """`point`: the id of what is kept of its disks, "" if there is nothing to keep; `path`: of its file, "" if that is
    beside this one, for xend to look after."""

    name: str
    point: str
    path: str
    created_at: float
    size: int


@dataclass(frozen=True, slots=True)
class Coming:
    """One that is being made, in the file `path`."""

    checkpoints: "Checkpoints"
    name: str
    path: Path

    def add(self, point: str, size: int) -> None:
        """Its file is there. ApiError (failed)."""
        self.checkpoints.put(self.name, self.path, point, size)


class Checkpoints:
    """Those of the domain whose folder of logs is `state`. Everything raises ApiError."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._folder = state / CHECKPOINTS

    @property
    def domain(self) -> str:
        """Its name."""
        return self._state.name

    def all(self) -> list[Checkpoint]:
        """The oldest first."""
        found = []
        with failing(self._folder):
            for path in self._folder.glob("[!.]*.json"):
                with sound(path):
                    found.append(msgspec.convert(read_json(path), Checkpoint))
        return sorted(found, key=lambda one: one.created_at)

    def find(self, name: str) -> Checkpoint:
        found = next((one for one in self.all() if one.name == name), None)
        if found is None:
            raise ApiError("no-such-checkpoint", f'{self.domain} has no checkpoint "{name}"')
        return found

    def shown(self, one: Checkpoint) -> t.Checkpoint:
        """As the API tells it."""
        path = self._path(one)
        return {
            "name": one.name,
            "path": str(path),
            "created_at": one.created_at,
            "size": one.size,
            "disks": bool(one.point),
            "there": path.exists(),
        }

    def _path(self, one: Checkpoint) -> Path:
        return Path(one.path) if one.path else self._own(one.name)

    def _own(self, name: str) -> Path:
        return self._folder / f"{name}{_SUFFIX}"

    def put(self, name: str, path: Path, point: str, size: int) -> None:
        """Those whose file it has taken are gone."""
        gone = self._at(path)
        if any(one.point for one in gone):
            all_layers(self._state)  # what was kept can be forgotten
        outside = "" if path == self._own(name) else str(path)
        made = Checkpoint(name, point, outside, time.time(), size)
        with failing(self._folder):
            private_folder(self._folder)
            write_json(self._folder / f"{made.name}.json", msgspec.to_builtins(made), durable=True)
            for one in gone:
                if one.name != made.name:
                    remove(self._folder / f"{one.name}.json")
                self._forget_disks(one)

    def forget(self, gone: Checkpoint) -> None:
        """Its file, if that is nobody else's business, and what was kept of its disks and nobody else needs."""
        self._unlist(gone)
        if not gone.path:
            with failing(self._folder):
                self._path(gone).unlink(missing_ok=True)

    def _unlist(self, gone: Checkpoint) -> None:
        with failing(self._folder):
            remove(self._folder / f"{gone.name}.json")
        self._forget_disks(gone)

    def _at(self, path: Path) -> list[Checkpoint]:
        return [one for one in self.all() if self._path(one) == path]

    def replaced(self, path: Path) -> None:
        """Something else is in that file now, and stays."""
        for one in self._at(Path(os.path.realpath(path))):
            self._unlist(one)

    def forget_unknown(self) -> None:
        """What was kept for checkpoints of which a killed xend has not written down that they are there."""
        known = {one.point for one in self.all()}
        for layers in all_layers(self._state):
            for point in layers.known().points:
                if point not in known:
                    layers.forget(point)

    def _forget_disks(self, gone: Checkpoint) -> None:
        for layers in all_layers(self._state) if gone.point else ():
            layers.forget(gone.point)
            layers.sweep()

    # --- new ones

    def named(self, name: str) -> Coming:
        """`name`: "" for one of the moment."""
        name = name or time.strftime("%Y-%m-%d-%H%M%S")
        if not _NAME.fullmatch(name) or len(name) > NAME_CHARACTERS:
            raise ApiError(
                "bad-request",
                f"a checkpoint's name has up to {NAME_CHARACTERS} letters, digits and . _ -: choose another one",
            )
        if any(one.name == name for one in self.all()):
            raise ApiError("already-exists", f'{self.domain} has a checkpoint "{name}": choose another name')
        with failing(self._folder):
            private_folder(self._folder)
        return Coming(self, name, self._own(name))

    def named_by(self, path: Path) -> Coming:
        """For a file that somebody else looks after; one of that file before gives its name, too."""
        path = Path(os.path.realpath(path))  # where a link leads, as what is written
        others = {one.name: self._path(one) for one in self.all()}
        stem = _BAD.sub("-", path.name).lstrip("._-")[: NAME_CHARACTERS - 8] or "checkpoint"
        names = [stem, *(f"{stem}-{number}" for number in range(2, len(others) + 2))]
        return Coming(self, next(name for name in names if others.get(name, path) == path), path)
