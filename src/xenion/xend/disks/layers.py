"""What checkpoints make of an image: it stays as it was, and its domain goes on in a new file above it.

    STATE/domains/NAME/layers/KEY-1.qcow2, KEY-2.qcow2, ...   each over one that is written no more
    STATE/domains/NAME/layers/KEY.json                        the Note of the image that KEY stands for

A point is what a checkpoint fixes: the file that was on top then, and all that is below it. A domain that goes back to
a point goes on in a new file above it, so the layers of an image are a tree, of which the guest has one branch.
"""

import errno
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Self

import msgspec

from xenion.api.errors import ApiError
from xenion.config.disk import Disk, Format
from xenion.config.errors import ConfigError, shown
from xenion.xend.disks import chain as chains
from xenion.xend.disks import header, qemu_img
from xenion.xend.disks.errors import cannot, not_opened
from xenion.xend.disks.place import DISKS, DiskPlace
from xenion.xend.storage import private_folder, read_json, remove, sound, sync_folder, write_json
from xenion.xend.threads import in_thread

LAYERS = "layers"
KEY_CHARACTERS = 16


_NAME = re.compile(rf"[0-9a-f]{{{KEY_CHARACTERS}}}-[0-9]+\.qcow2")
Name = Annotated[str, msgspec.Meta(pattern=rf"^({_NAME.pattern})?$")]


class Stamp(msgspec.Struct, frozen=True):
    """Another one after each write."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """OSError."""
        now = path.stat()
        return cls(now.st_size, now.st_mtime_ns)


class Note(msgspec.Struct, frozen=True):
    """Files by their names in the folder, "" for the image itself, which is `base`, of the format `format`, and was the
    disk `vdev`.

    `top`: the one that is written, `fresh`: as it was when it was made. `next`: the one that is on top if the
    checkpoint that made it, as `next_fresh`, came so far before xend was killed: it is if there is a write in it.
    `frozen`: as they have been left; one of them that is not in it is being merged. `merged`: what has gone into which,
    but may still be below others. `points`: by the checkpoints' ids. `number`: the newest file's.
    """

    base: str
    format: Format
    vdev: str
    top: Name = ""
    fresh: Stamp | None = None
    next: Name = ""
    next_fresh: Stamp | None = None
    number: int = 0
    frozen: dict[Name, Stamp] = {}
    points: dict[str, Name] = {}
    merged: dict[Name, Name] = {}

    def without(self, point: str) -> "Note":
        kept = {known: name for known, name in self.points.items() if known != point}
        return msgspec.structs.replace(self, points=kept)

    def on_top(self, frozen: dict[str, Stamp], points: dict[str, str]) -> "Note":
        """With the next one on top."""
        return msgspec.structs.replace(
            self, top=self.next, fresh=self.next_fresh, next="", next_fresh=None, frozen=frozen, points=points
        )


def image_of(disk: Disk, state: Path) -> tuple[Path, Format] | None:
    """The file, or device, that the guest would write without any checkpoint. `state`: its domain's folder of logs."""
    if disk.overlay:
        return state / DISKS / f"{disk.vdev}.qcow2", Format.QCOW2
    return None if disk.format is Format.NBD or not disk.target else (Path(disk.target), disk.format)


def layers_of(disk: Disk, state: Path) -> "Layers | None":
    """None for a disk that cannot have any."""
    found = image_of(disk, state)
    return Layers(disk, state, *found) if found else None


def all_layers(state: Path) -> list["Layers"]:
    """Of all images of the domain. ApiError."""
    found = []
    for path in sorted((state / LAYERS).glob("*.json")):
        try:
            note = _load(path)
            image = Path(os.path.normpath(state / LAYERS / note.base))
            disk = Disk(target=str(image), vdev=note.vdev, format=note.format)
        except (OSError, ConfigError) as error:
            raise ApiError("failed", _damaged(path)) from error
        found.append(Layers(disk, state, image, note.format))
    return found


def _load(path: Path) -> Note:
    """OSError; EUCLEAN if it makes no sense."""
    with sound(path):
        return msgspec.convert(read_json(path), Note)


def _damaged(path: Path) -> str:
    return f"{path} is damaged, which tells in which file beside it the guest's disk is: put it right by hand"


def is_kept(image: Path, state: Path) -> bool:
    """There are checkpoints of it, or there may come to be. OSError."""
    path = note_of(base_of(image, state), state)
    if not path.exists():
        return False
    note = _load(path)
    return bool(note.points or note.next)


def drop(image: Path, state: Path) -> None:
    """What is above an image that is to go. OSError."""
    path = note_of(base_of(image, state), state)
    if path.exists():
        remove(path)
    for layer in path.parent.glob(f"{path.stem}-*.qcow2"):
        layer.unlink()


def base_of(image: Path, state: Path) -> str:
    """As files in the folder name it, for it may move with them when the domain is renamed."""
    return f"../{image.relative_to(state)}" if image.is_relative_to(state) else os.path.realpath(image)


def note_of(base: str, state: Path) -> Path:
    """Where its note is, if there are layers above it."""
    key = hashlib.sha256(os.fsencode(base)).hexdigest()[:KEY_CHARACTERS]
    return state / LAYERS / f"{key}.json"


class Layers:
    """Of one image of one domain. Whoever calls sees to it that nobody else does meanwhile. Everything raises ApiError
    (refused, failed)."""

    def __init__(self, disk: Disk, state: Path, image: Path, form: Format) -> None:
        self.disk = disk
        self.image = image
        self._format = form
        self._state = state
        self._folder = state / LAYERS
        self.base = base_of(image, state)
        self._path = note_of(self.base, state)
        self.key = self._path.stem

    def path(self, name: str) -> Path:
        return self._folder / name if name else self.image

    def format(self, name: str) -> Format:
        return Format.QCOW2 if name else self._format

    # --- the note

    def read(self) -> Note | None:
        try:
            return _load(self._path)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.EUCLEAN:
                raise not_opened(self.disk, self._path, error) from error
            raise cannot(self.disk, _damaged(self._path), "failed") from error

    def known(self) -> Note:
        note = self.read()
        if note is None:
            raise cannot(self.disk, f"{self._path} is gone", "failed")
        return note

    def write(self, note: Note) -> None:
        """One that says nothing any more goes."""
        with self.refusals():
            if note.top or note.next or note.points:
                private_folder(self._folder)
                write_json(self._path, msgspec.to_builtins(note), durable=True)
            elif self._path.exists():
                remove(self._path)

    @contextmanager
    def refusals(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise not_opened(self.disk, error.filename or self._path, error) from error

    # --- what the guest has

    def check_free(self) -> None:
        """Nobody writes an image that is what it is for another domain's checkpoints."""
        for note in self._state.parent.glob(f"*/{LAYERS}/{self.key}.json"):
            other = note.parent.parent
            if other != self._state and not self.base.startswith(".."):
                raise cannot(
                    self.disk,
                    f"{self.image} is kept as it is for checkpoints of {other.name}, whose disk goes on in another "
                    f"file: `xm checkpoint-merge {other.name}` puts them together, or attach it read-only",
                )

    def top(self) -> Path | None:
        """The file that the guest is to write; None: the image itself. Nobody has it open."""
        note = self.settled()
        if note is None or not note.top:
            return None
        self.check(note, [below for _, below in self.branch(note.top)])
        return self.path(note.top)

    def check(self, note: Note, names: Iterable[str]) -> None:
        """Those of them that are written no more are as they were left."""
        for name in names:
            then = note.frozen.get(name)
            with self.refusals():
                if then is not None and then != Stamp.of(self.path(name)):
                    raise cannot(
                        self.disk,
                        f"{self.path(name)} was changed since a checkpoint was made, and {self.path(note.top)} fits "
                        "it no more: put it back as it was",
                    )

    def written(self) -> Path:
        """The file that the guest writes, as far as is known."""
        note = self.read()
        return self.path(note.top if note else "")

    def settled(self, *, served: bool = False) -> Note | None:
        """Of a disk that nobody has open: what a killed xend has left open is decided. `served`: its domain's process
        had a storage daemon for it."""
        note = self.read()
        if note is None or not note.next:
            return note
        with self.refusals():
            path = self.path(note.next)
            used = path.exists() and Stamp.of(path) != note.next_fresh
        used = used or (served and self.format(note.top) is Format.RAW)
        return self.commit("") if used else self.withdraw()

    # --- a checkpoint

    async def begin(self, place: DiskPlace) -> Path:
        """A new file over the one that is on top, which will be the next one."""
        note = self.read() or Note(self.base, self._format, self.disk.vdev)
        return await self._make(note, note.top, place)

    async def _make(self, note: Note, below: str, place: DiskPlace) -> Path:
        number = note.number + 1
        name = f"{self.key}-{number}.qcow2"
        path = self.path(name)
        with self.refusals():
            private_folder(self._folder)
            path.unlink(missing_ok=True)
            find = partial(chains.find, self.disk, self.path(below), self.format(below), place)
            base, *others = await in_thread(find, lambda _: None)
            if len(others) + 2 > chains.LONGEST:
                raise cannot(
                    self.disk,
                    f"there are {len(others)} files below {base.path} already: merge checkpoints first",
                )
            await qemu_img.make_over(self.disk, path, self._in_sectors(base), below or self.base)
            await in_thread(partial(_sync, path), lambda _: None)
            fresh = Stamp.of(path)
        self.write(msgspec.structs.replace(note, number=number, next=name, next_fresh=fresh))
        return path

    def _in_sectors(self, base: chains.Image) -> chains.Image:
        """A guest sees a whole number of them, and zeros where the last one is not all there."""
        sector = self.disk.sector_bytes
        return replace(base, size_bytes=-(-base.size_bytes // sector) * sector)

    def commit(self, point: str) -> Note:
        """The next one is on top; what was there is left as it is now, as a point unless that is ""."""
        note = self.known()
        if not note.next:
            raise cannot(self.disk, f"there is nothing above {self.path(note.top)}", "failed")
        with self.refusals():
            frozen = {**note.frozen, note.top: Stamp.of(self.path(note.top))}
        made = note.on_top(frozen, {**note.points, point: note.top} if point else note.points)
        self.write(made)
        return made

    def withdraw(self) -> Note | None:
        """There is no next one; again is fine."""
        note = self.read()
        if note is None or not note.next:
            return note
        with self.refusals():
            self.path(note.next).unlink(missing_ok=True)
        made = msgspec.structs.replace(note, next="", next_fresh=None)
        self.write(made)
        return made

    # --- points

    def frozen(self, point: str) -> tuple[Path, Stamp]:
        """What a checkpoint has fixed, as it still is."""
        note = self.read()
        name = note.points.get(point) if note else None
        if note is None or name is None:
            raise cannot(self.disk, "what it was then is not there any more: the checkpoint was deleted")
        path = self.path(name)
        with self.refusals():
            now = Stamp.of(path)
        if note.frozen.get(name, now) != now:
            raise cannot(
                self.disk, f"{path} was changed since the checkpoint was made: put it back as it was"
            )
        return path, now

    def is_at(self, point: str) -> bool:
        """Nothing has been written since; of a disk that nobody has open."""
        note = self.settled()
        if note is None or not note.top or self.below(note.top) != note.points.get(point):
            return False
        with self.refusals():
            return Stamp.of(self.path(note.top)) == note.fresh

    async def go_back(self, point: str, place: DiskPlace) -> Note:
        """A new file above the point is on top now. What was before, for `undo`; `sweep` makes it final."""
        self.settled()
        self.frozen(point)
        before = self.known()
        await self._make(before, before.points[point], place)
        note = self.known()
        self.write(note.on_top(note.frozen, note.points))
        return before

    def undo(self, before: Note) -> None:
        """`go_back` was for nothing."""
        note = self.known()
        self.write(msgspec.structs.replace(before, number=note.number))
        with self.refusals():
            self.path(note.top).unlink(missing_ok=True)

    def forget(self, point: str) -> None:
        """One that is not there is fine."""
        note = self.read()
        if note is not None:
            self.write(note.without(point))

    def sweep(self) -> None:
        """Files go that neither the guest nor a point needs."""
        note = self.read()
        needed = self.needed(note) if note else {}
        with self.refusals():
            for path in self._folder.glob(f"{self.key}-*.qcow2"):
                if path.name not in needed:
                    path.unlink()

    def needed(self, note: Note) -> dict[str, str]:
        """What is directly below each file that is needed."""
        found: dict[str, str] = {}
        for top in (note.top, note.next, *note.points.values()):
            for above, below in self.branch(top):
                if above in found:
                    break
                found[above] = below
        return found

    def branch(self, name: str) -> Iterator[tuple[str, str]]:
        """Each file from this one on, and what is directly below it."""
        for _ in range(chains.LONGEST + 1):
            if not name:
                return
            below = self.below(name)
            yield name, below
            name = below
        raise cannot(self.disk, f"{self.path(name)} is in a chain of files that is too long or has no end")

    def below(self, name: str) -> str:
        path = self.path(name)
        try:
            with self.refusals(), path.open("rb") as file:
                backing = header.parse(file.read(header.HEAD_BYTES)).backing
        except header.HeaderError as error:
            raise cannot(self.disk, f"{path} {error}") from error
        if backing == self.base:
            return ""
        if not _NAME.fullmatch(backing):
            raise cannot(self.disk, f"{path} is above {shown(backing)}, where nothing of ours is")
        return backing


def _sync(path: Path) -> None:
    """The file and its name are on the disk. OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    sync_folder(path.parent)
