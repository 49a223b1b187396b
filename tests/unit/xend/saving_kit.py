"""Stand-ins that are saved, with disks that real storage daemons serve, and what their guests find there."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.unit.xend.kit import Direct, World, asked, config, names
from tests.unit.xend.standin import CONTENT
from xenion.config.disk import Disk, Format
from xenion.config.domain import DomainConfig
from xenion.domain.saved.format import DONE, HEAD, NUMBER, STATE, Writer
from xenion.domain.saved.state import Head, HostState, encode
from xenion.xend import saver
from xenion.xend.checkpoints import Checkpoint, Checkpoints
from xenion.xend.disks.layers import Layers, Note, layers_of
from xenion.xend.disks.qmp import Qmp, QmpError
from xenion.xend.live import Live
from xenion.xend.savedfile import append_host
from xenion.xend.storage import read_json
from xenion.xend.switching import Switching

UUID = "00000000-0000-4000-8000-00000000000a"
KINDS = ("raw", "qcow2", "overlay")


# --- files


def content(path: Path, made: DomainConfig, domid: int = 1, **more: Any) -> None:
    """All but the last section."""
    mapping = {**made.to_mapping(), "uuid": UUID, **more}
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    writer = Writer(fd)
    writer.begin()
    writer.section(
        HEAD,
        encode(
            Head(
                mapping,
                uuid=UUID,
                domid=domid,
                known_as=domid,
                name=made.name,
                processor="software",
                saved_at=0.0,
                xenion="1",
            )
        ),
    )
    writer.section(STATE, b"{}")
    writer.section(DONE, NUMBER.pack(0))
    os.close(fd)


async def creates(world: World, behaviour: str = "", **more: Any) -> Live:
    """A domain that can be saved."""
    made = config(world.at, behaviour=behaviour, **more)
    content(world.at / CONTENT, made)
    return await world.create(DomainConfig.from_mapping({**made.to_mapping(), "uuid": UUID}))


def file(world: World, **more: Any) -> Path:
    """A saved domain, without one that was."""
    path = world.at / "web.saved"
    made = config(world.at)
    content(path, made, **more)
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    append_host(fd, HostState(lasting=False, disks=[]))
    os.close(fd)
    return path


def words(live: Live) -> list[str]:
    return [request["do"] for request in asked(live)]


def parts(world: World) -> list[str]:
    return [name for name in names(world.at) if name.endswith(".part")]


# --- disks


def image(world: World, kind: str = "raw", vdev: str = "xvda", **more: Any) -> Disk:
    """With 1 MiB of zeros."""
    if kind != "qcow2":
        return world.disk(vdev, overlay=kind == "overlay", **more)
    path = world.at / f"{vdev}.qcow2"
    if not path.exists():
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "1M"], check=True)
    return Disk(target=str(path), vdev=vdev, format=Format.QCOW2, **more)


def writes(live: Live, disk: Disk, fill: int, at: int = 0) -> None:
    """Its guest, a sector."""
    with Direct(live) as direct:
        assert direct.ask("write", devid=disk.devid, fill=fill, at=at)["first"] == fill


def reads(live: Live, disk: Disk, at: int = 0) -> int:
    """Its guest, the first byte of a sector."""
    with Direct(live) as direct:
        return int(direct.ask("read", devid=disk.devid, at=at)["first"])


def flushes(live: Live, disk: Disk) -> None:
    """Its guest: what it has written lasts, even if its storage daemon does not."""
    with Direct(live) as direct:
        assert direct.ask("flush", devid=disk.devid) == {}


def state(world: World, name: str = "web") -> Path:
    return world.where.logs(name)


def layers(world: World, disk: Disk, name: str = "web") -> Layers:
    found = layers_of(disk, state(world, name))
    assert found is not None
    return found


def note(world: World, disk: Disk, name: str = "web") -> Note:
    return layers(world, disk, name).known()


def points(world: World, disk: Disk) -> list[str]:
    """What is kept of it."""
    found = layers(world, disk).read()
    return sorted(found.points) if found else []


def files(world: World, name: str = "web") -> list[str]:
    """Of layers; the notes are of no interest."""
    folder = state(world, name) / "layers"
    return [name for name in names(folder) if name.endswith(".qcow2")] if folder.exists() else []


def kept(world: World, name: str = "web") -> list[Checkpoint]:
    return Checkpoints(state(world, name)).all()


def first_byte(path: Path, form: Format) -> int:
    """The first byte that a guest finds there."""
    out = path.with_name(f"{path.name}.raw")
    subprocess.run(["qemu-img", "convert", "-U", "-f", form.value, "-O", "raw", path, out], check=True)
    found = out.read_bytes()[0]
    out.unlink()
    return found


def at_point(world: World, disk: Disk, point: str) -> int:
    """The first byte that its guest finds when it goes back there."""
    made = layers(world, disk)
    path, _ = made.frozen(point)
    return first_byte(path, made.format(made.known().points[point]))


def helpers_known(live: Live) -> list[int]:
    """Those of its record, which is on the disk as well."""
    told = [[helper.pid for helper in entry.helpers] for entry in live.record.devices]
    written = read_json(live.folder / "record.json")["devices"]
    assert [[helper["pid"] for helper in entry["helpers"]] for entry in written] == told
    return [pid for pids in told for pid in pids]


def behave(live: Live, words: str = "") -> None:
    with Direct(live) as direct:
        direct.ask("behave", words=words)


class Dead(Exception):
    """Nothing of this xend's comes after it."""


def dead(*_: object, **__: object) -> None:
    raise Dead


@contextmanager
def killed(monkeypatch: pytest.MonkeyPatch, at: object, name: str) -> Iterator[None]:
    """A xend that comes to this step of a checkpoint, and no further; what it has open is closed, as by its end."""

    async def leave(self: Switching) -> None:
        await self._talks.aclose()
        await self._open.aclose()

    async def no_words(*_: object) -> None:
        """It says nothing any more."""

    with monkeypatch.context() as patched:
        patched.setattr(at, name, dead)
        patched.setattr(Switching, "_leave", leave)
        patched.setattr(saver, "give_up", no_words)
        yield


@contextmanager
def refusing(monkeypatch: pytest.MonkeyPatch, command: str = "", *, after: int = 0) -> Iterator[list[str]]:
    """Storage daemons do not know this command, after so many times; all that they are told."""
    does, told = Qmp.do, []

    async def do(self: Qmp, what: str, **arguments: Any) -> Any:
        told.append(what)
        if what == command and told.count(command) > after:
            raise QmpError(f"the command {what} has not been found")
        return await does(self, what, **arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Qmp, "do", do)
        yield told


# --- checkpoints of a domain that is over


async def kept_twice(world: World, *disks: Disk, behaviour: str = "") -> tuple[str, str]:
    """The paths of two checkpoints, at 1 and 2, of a domain that is over, and was 3."""
    live = await creates(world, disks=disks)
    if behaviour:
        content(world.at / CONTENT, config(world.at, behaviour=behaviour, disks=disks))
    for number in (1, 2):
        for disk in disks:
            writes(live, disk, number)
        path = str(world.at / f"n{number}")
        await world.task("save", {"path": path, "keep": True}, domain="web")
    for disk in disks:
        writes(live, disk, 3)
    await world.call("destroy", domain="web")
    return str(world.at / "n1"), str(world.at / "n2")


def now(world: World, *disks: Disk) -> list[int]:
    """What a guest would find on disks that nobody has open."""
    found = []
    for disk in disks:
        made = layers(world, disk)
        note = made.read()
        name = note.top if note else ""
        found.append(first_byte(made.path(name), made.format(name)))
    return found
