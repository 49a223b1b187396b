"""What is on a running domain's disks is fixed while it is saved: with real storage daemons, and a stand-in that writes
to its disks as a guest would."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.kit import Direct, World, add, asked, end, helpers_of, run, within
from tests.unit.xend.saving_kit import (
    KINDS,
    at_point,
    behave,
    creates,
    files,
    first_byte,
    flushes,
    helpers_known,
    image,
    kept,
    killed,
    layers,
    note,
    parts,
    points,
    reads,
    refusing,
    state,
    words,
    writes,
)
from xenion.api.errors import ApiError
from xenion.config.disk import Disk, Format
from xenion.dom0.block import locks
from xenion.domain.saved.format import SaveError
from xenion.xend import checkpoints, helpers, mending, savedfile, saver, supervisor, switching, told
from xenion.xend.disks import layers as layers_module
from xenion.xend.disks.layers import Layers
from xenion.xend.disks.qmp import Qmp
from xenion.xend.live import Live
from xenion.xend.part import Part
from xenion.xend.switching import Switching, check_switchable, written

pytestmark = pytest.mark.usefixtures("tools")
NBD = Disk(target="nbd://192.0.2.1/x", vdev="xvdz", format=Format.NBD)
LOST_DISK = {"kind": "lost", "kind_of_device": "vbd", "devid": 51712}


async def checkpoint(world: World, name: str = "one", **body: Any) -> str:
    """Its point."""
    await world.task("checkpoint", {"name": name, **body}, domain="web")
    return next(one.point for one in kept(world) if one.name == name)


# --- what is done


def test_what_is_there_then_is_kept(world: World) -> None:
    """And what its guest writes afterwards is its own, over and over."""

    async def work(kind: str) -> None:
        async with world:
            disk = image(world, kind)
            live = await creates(world, disks=(disk,))
            writes(live, disk, 1)
            before, made = descriptors(), {}
            for number in (1, 2, 3):
                made[await checkpoint(world, f"n{number}")] = number
                assert reads(live, disk) == number
                writes(live, disk, number + 1)
            assert set(descriptors()) <= set(before)
            assert len(helpers_of(world.at)) == len(helpers_known(live)) == 1
            assert {point: at_point(world, disk, point) for point in made} == made
            await world.call("destroy", domain="web")
            assert helpers_of(world.at) == []
            assert {point: at_point(world, disk, point) for point in made} == made, "nobody has written there"
            assert len(files(world)) == 3
            assert reads(await creates(world, disks=(disk,)), disk) == 4
            await world.call("destroy", domain="web")

    for kind in KINDS:
        run(lambda kind=kind: work(kind))  # type: ignore[misc]
        for path in state(world).rglob("*.*"):
            path.unlink()


@pytest.mark.parametrize("kind", KINDS)
def test_what_its_process_is_asked(world: World, kind: str) -> None:
    async def work() -> None:
        async with world:
            disk = image(world, kind)
            live = await creates(world, disks=(disk,))
            await checkpoint(world)
            stands_by = ["standby-device"] if kind == "raw" else []
            rest = ["save", "switched", "devices", "configure-device"]
            assert words(live) == ["devices", *stands_by, *rest]
            await checkpoint(world, "two")
            assert words(live)[len(stands_by) + 5 :] == ["devices", *rest], "it is served by now"
            of = {request["do"]: request for request in asked(live)}
            assert (of["save"]["keep"], of["save"]["switch"], of["save"]["ask"]) == (True, True, False)
            below = [request["fds"] for request in asked(live) if request["do"] == "configure-device"]
            first = layers(world, disk).image
            assert below == [[str(first)], [str(layers(world, disk).path(files(world)[0]))]]
            if stands_by:
                described = of["standby-device"]["description"]
                assert (described["type"], described["size_bytes"], described["vdev"]) == (
                    "nbd",
                    1 << 20,
                    "xvda",
                )
                assert all(name.startswith("socket:") for name in of["standby-device"]["fds"])
            await world.call("destroy", domain="web")

    run(work)


def test_what_its_storage_daemon_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file comes while the guest runs, and goes on top when all is at rest."""

    async def work() -> None:
        async with world:
            disk = image(world, "qcow2")
            live = await creates(world, "slow-save", disks=(disk,))
            looks = ["qmp_capabilities", "query-block-exports", "query-named-block-nodes"]
            with refusing(monkeypatch) as told:
                begun = await world.call("checkpoint", {}, domain="web")
                await world.until(lambda: "save" in words(live))
                assert told == [*looks, *looks, "blockdev-add"]
                await world.call("cancel", task=begun["id"])
                assert told[7:] == [*looks, "qmp_capabilities", "blockdev-del"]
                told.clear()
                behave(live)
                await checkpoint(world)
                assert told == [*looks, *looks, "blockdev-add", "blockdev-snapshot", *looks]
            await world.call("destroy", domain="web")

    run(work)


def test_all_of_its_disks_at_once(world: World) -> None:
    """What it only reads is left alone."""

    async def work() -> None:
        async with world:
            disks = tuple(
                image(world, kind, f"xvd{letter}") for kind, letter in zip(KINDS, "abc", strict=True)
            )
            others = (
                image(world, "raw", "xvdd", writable=False),
                image(world, "qcow2", "xvde", writable=False),
                Disk(target="", vdev="xvdf", cdrom=True, writable=False),
            )
            live = await creates(world, disks=(*disks, *others))
            for number, disk in enumerate(disks, 1):
                writes(live, disk, number)
            point = await checkpoint(world)
            assert words(live)[:2] == ["devices", "standby-device"]
            assert words(live)[-8:] == ["save", "switched", *["devices", "configure-device"] * 3]
            assert [points(world, disk) for disk in disks] == [[point]] * 3
            assert len(files(world)) == 3
            for disk in others[:2]:
                assert layers(world, disk).read() is None
            for number, disk in enumerate(disks, 1):
                writes(live, disk, 9)
                assert at_point(world, disk, point) == number
            assert len(helpers_of(world.at)) == len(helpers_known(live)) == 4
            await world.call("destroy", domain="web")
            assert helpers_of(world.at) == []

    run(work)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_below_is_locked(world: World, kind: str) -> None:
    """As long as the domain is there."""

    async def work() -> None:
        async with world:
            disk = image(world, kind)
            await creates(world, disks=(disk,))
            await checkpoint(world)
            fd = os.open(layers(world, disk).image, os.O_RDWR)
            with pytest.raises(locks.InUseError):
                locks.take(fd, writable=True)
            await world.call("destroy", domain="web")
            locks.take(fd, writable=True)
            os.close(fd)

    run(work)


@pytest.mark.parametrize("error", [locks.NoLocksError, locks.InUseError])
def test_a_file_system_without_locks(
    world: World, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    async def work() -> None:
        async with world:
            disk = image(world)
            live = await creates(world, disks=(disk,))

            def no_locks(fd: int, *, writable: bool) -> None:
                raise error

            before = len(descriptors())
            with monkeypatch.context() as patched:
                patched.setattr(locks, "take", no_locks)
                await checkpoint(world)
            assert "configure-device" not in words(live)
            assert len(descriptors()) == before
            await world.call("destroy", domain="web")

    run(work)


def test_a_folder_of_any_name(tmp_path: Path, standins: None) -> None:
    """As a storage daemon tells it: what is on top is found by it."""
    folder = tmp_path / 'a "b" %s{c}: ü,=\\x'
    folder.mkdir()
    world = World(folder)

    async def work() -> None:
        async with world:
            disk = Disk(target=str(tmp_path / "xvda.img"), vdev="xvda")
            Path(disk.target).write_bytes(bytes(1 << 20))
            live = await creates(world, disks=(disk,))
            for number in (1, 2):
                writes(live, disk, number)
                assert at_point(world, disk, await checkpoint(world, f"n{number}")) == number
            await world.call("destroy", domain="web")

    (tmp_path / "content").symlink_to(folder / "content")
    run(work)


# --- what cannot be kept


def running(*disks: Disk) -> Live:
    return cast("Live", SimpleNamespace(record=SimpleNamespace(config=SimpleNamespace(disks=disks))))


def test_which_of_its_disks_change() -> None:
    ours = (Disk(target="/a", vdev="xvda"), Disk(target="/b", vdev="xvdb", overlay=True))
    others = (
        Disk(target="/c", vdev="xvdc", writable=False),
        Disk(target="", vdev="xvdd", cdrom=True, writable=False),
    )
    assert written(running(*others, *ours)) == list(ours)
    check_switchable(running(*others, *ours))


@pytest.mark.parametrize(
    ("disk", "why"),
    [
        (NBD, "what nbd://192.0.2.1/x has is its server's"),
        (Disk(target="/dev/sdz", vdev="xvdz"), "/dev/sdz is a device, of which nobody could tell"),
        (Disk(target="/dev/sdz", vdev="xvdz", format=Format.QCOW2), "/dev/sdz is a device"),
    ],
)
def test_disks_that_cannot_be_kept(
    world: World, monkeypatch: pytest.MonkeyPatch, disk: Disk, why: str
) -> None:
    """Told before anything is done; its memory alone can be."""
    monkeypatch.setattr(switching, "is_device", lambda path: path == "/dev/sdz")
    check_switchable(running(replace(disk, writable=False)))

    async def work() -> None:
        async with world:
            live = await creates(world, disks=(image(world),))
            live.record.config = replace(live.record.config, disks=(*live.record.config.disks, disk))
            before, path = descriptors(), str(world.at / "here")
            for begun in (
                world.call("checkpoint", {}, domain="web"),
                world.call("save", {"path": path, "keep": True}, domain="web"),
            ):
                error = await world.refusal(begun)
                assert error.code == "refused"
                assert error.message.startswith("disk xvdz: a checkpoint cannot keep what is on it, ")
                assert why in error.message
                assert "--memory-only" in error.message
            assert (words(live), kept(world), parts(world), live.record.parts) == ([], [], [], [])
            assert set(descriptors()) <= set(before)
            assert helpers_of(world.at) == []

    run(work)


def test_an_overlay_over_a_device_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switching, "is_device", lambda path: True)
    check_switchable(running(Disk(target="/dev/sdz", vdev="xvdz", overlay=True)))


# --- what goes wrong: the domain goes on, and nothing that was written is lost

Patch = Callable[[pytest.MonkeyPatch], AbstractContextManager[object]]


@dataclass(frozen=True)
class Obstacle:
    """`words`: how the stand-in behaves; `undecided`: its notes still say that a file may be on top."""

    says: str
    patch: Patch = lambda _: nullcontext()
    words: str = ""
    undecided: bool = False


def patch(at: object, name: str, does: Any) -> Patch:
    @contextmanager
    def patched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        with monkeypatch.context() as context:
            context.setattr(at, name, does)
            yield

    return patched


def fails(*_: object, **__: object) -> None:
    raise ApiError("failed", "not now")


def no_disk(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device", "/x")


def no_room(*_: object) -> None:
    raise SaveError("there is no room")


def bug(*_: object) -> None:
    raise ZeroDivisionError


def without(program: str) -> Patch:
    really = helpers.find

    def find(wanted: str) -> str:
        if wanted == program:
            raise ApiError("failed", f"{program} is not installed")
        return really(wanted)

    return patch(helpers, "find", find)


def works_before(at: object, name: str, number: int, *, only: bool = False) -> Patch:
    """That call of a function fails, and with `only` no other one, otherwise all that come then."""
    really, calls = getattr(at, name), []

    def does(*of: Any, **more: Any) -> Any:
        calls.append(name)
        if len(calls) == number or (len(calls) > number and not only):
            fails()
        return really(*of, **more)

    @contextmanager
    def patched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        calls.clear()
        with patch(at, name, does)(monkeypatch):
            yield

    return patched


def unknown(command: str, *, after: int = 0) -> Patch:
    return lambda monkeypatch: refusing(monkeypatch, command, after=after)


GOES_NOT_ALONG = "its storage daemon does not go along: the command {} has not been found"
OF_ANY = {
    "no-qemu-img": Obstacle("qemu-img is not installed", without("qemu-img")),
    "no-note": Obstacle("No space left on device", patch(layers_module, "write_json", no_disk)),
    "devices-not-told": Obstacle("not now", patch(told, "devices", fails), undecided=True),
    "not-saved": Obstacle("it cannot be saved now", words="no-save"),
    "no-rest": Obstacle("has not told that its disks rest", words="restless"),
    "no-room-at-rest": Obstacle("there is no room", words="full"),
    "not-switched": Obstacle("what stands by for it has another size", words="no-switch"),
    "not-locked": Obstacle("it cannot be changed", words="no-change"),
    "one-commit": Obstacle("not now", works_before(Layers, "commit", 2), undecided=True),
    "a-bug": Obstacle("a bug of xend's", patch(savedfile, "fixed_state", bug)),
    "no-last-section": Obstacle("there is no room; it goes on", patch(savedfile, "append_host", no_room)),
    "no-name": Obstacle("not now", patch(Part, "finish", fails)),
    "no-entry": Obstacle("No space left on device", patch(checkpoints, "write_json", no_disk)),
}
OF_SERVED = {
    "no-add": Obstacle(GOES_NOT_ALONG.format("blockdev-add"), unknown("blockdev-add")),
    "one-add": Obstacle(GOES_NOT_ALONG.format("blockdev-add"), unknown("blockdev-add", after=1)),
    "no-snapshot": Obstacle(GOES_NOT_ALONG.format("blockdev-snapshot"), unknown("blockdev-snapshot")),
    "one-snapshot": Obstacle(
        GOES_NOT_ALONG.format("blockdev-snapshot"), unknown("blockdev-snapshot", after=1)
    ),
    "no-del": Obstacle("it cannot be saved now", unknown("blockdev-del"), words="no-save"),
}
OF_RAW = {
    "no-daemon": Obstacle("qemu-storage-daemon is not installed", without("qemu-storage-daemon")),
    "no-standby": Obstacle("nothing can stand by for it", words="no-standby"),
    "no-record-once": Obstacle("not now", works_before(Live, "save", 3, only=True)),
    "no-record": Obstacle("not now", works_before(Live, "save", 3), undecided=True),
}
ALL = [
    *((name, kind, one) for name, one in OF_ANY.items() for kind in ("raw", "qcow2")),
    *((name, kind, one) for name, one in OF_SERVED.items() for kind in ("qcow2", "overlay")),
    *((name, "raw", one) for name, one in OF_RAW.items()),
]
EACH = [pytest.param(kind, one, id=f"{name}-{kind}") for name, kind, one in ALL]


@asynccontextmanager
async def with_two(world: World, kind: str) -> AsyncIterator[tuple[Live, tuple[Disk, Disk]]]:
    """What happens within leaves nothing, and does no harm: another checkpoint works, and the next start."""
    async with world:
        disks = image(world, kind), image(world, kind, "xvdb")
        live = await creates(world, disks=disks)
        for disk in disks:
            writes(live, disk, 1)
        before = len(descriptors())
        yield live, disks
        behave(live)
        assert len(descriptors()) <= before
        assert (parts(world), live.record.parts, kept(world)) == ([], [], [])
        assert world.files(state(world) / "checkpoints") == []
        assert [points(world, disk) for disk in disks] == [[], []]
        await goes_on(world, live, disks)


async def goes_on(world: World, live: Live, disks: tuple[Disk, ...]) -> None:
    for disk in disks:
        assert reads(live, disk) == 1
        writes(live, disk, 2)
    point = await checkpoint(world, "last")
    for disk in disks:
        assert (note(world, disk).next, points(world, disk)) == ("", [point])
        writes(live, disk, 3)
    assert len(helpers_of(world.at)) == len(helpers_known(live)) == len(disks)
    await ends(world, disks, {point: 2}, 3)


async def ends(world: World, disks: tuple[Disk, ...], of_points: dict[str, int], last: int) -> None:
    """What is on its disks when it has ended, and when it is started again."""
    await world.call("destroy", domain="web")
    assert helpers_of(world.at) == []
    for disk in disks:
        assert {point: at_point(world, disk, point) for point in of_points} == of_points
    live = await creates(world, disks=disks)
    assert [reads(live, disk) for disk in disks] == [last] * len(disks)
    await world.call("destroy", domain="web")


@pytest.mark.parametrize(("kind", "one"), EACH)
def test_it_goes_on_as_if_nothing_had_been(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: str, one: Obstacle
) -> None:
    async def work() -> None:
        async with with_two(world, kind) as (live, disks):
            behave(live, one.words)
            with one.patch(monkeypatch):
                await world.refusal(world.task("checkpoint", {}, domain="web"))
            for disk in disks:
                found = layers(world, disk).read()
                assert one.undecided or found is None or not found.next
            assert len(helpers_of(world.at)) == sum(len(entry.helpers) for entry in live.record.devices)

    run(work)


@pytest.mark.parametrize(("kind", "one"), EACH)
def test_why_not_is_told(world: World, monkeypatch: pytest.MonkeyPatch, kind: str, one: Obstacle) -> None:
    async def work() -> str:
        async with world:
            disks = image(world, kind), image(world, kind, "xvdb")
            live = await creates(world, disks=disks)
            behave(live, one.words)
            with one.patch(monkeypatch):
                error = await world.refusal(world.task("checkpoint", {}, domain="web"))
            behave(live)
            await world.call("destroy", domain="web")
            return error.message

    assert one.says in run(work)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rest", ["before", "after"])
def test_cancelled(world: World, kind: str, rest: str) -> None:
    """Before its disks are at rest, and when they have been switched."""

    async def work() -> None:
        async with with_two(world, kind) as (live, disks):
            behave(live, "slow-save" if rest == "before" else "stuck")
            begun = await world.call("checkpoint", {}, domain="web")
            last = "save" if rest == "before" else "configure-device"
            await world.until(lambda: last in words(live))
            if rest == "after":
                await world.until(lambda: words(live).count(last) == 2)
            shown = await world.call("cancel", task=begun["id"])
            assert shown["state"] == "cancelled"
            assert "cancel-save" in words(live)
            assert {bool(note(world, disk).top) for disk in disks if layers(world, disk).read()} <= {True}
            on_top = [layers(world, disk).read() is not None for disk in disks]
            assert on_top == [rest == "after"] * 2

    run(work)


def test_cancelled_while_its_disks_are_switched(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is done to its end first."""

    async def work() -> None:
        async with with_two(world, "qcow2") as (live, disks):
            reached, go_on, does = asyncio.Event(), asyncio.Event(), Qmp.do

            async def do(self: Qmp, what: str, **arguments: Any) -> Any:
                if what == "blockdev-snapshot":
                    reached.set()
                    await go_on.wait()
                return await does(self, what, **arguments)

            with patch(Qmp, "do", do)(monkeypatch):
                begun = await world.call("checkpoint", {}, domain="web")
                await within(reached.wait())
                cancelling = asyncio.ensure_future(world.call("cancel", task=begun["id"]))
                await world.until(lambda: "cancel-save" in words(live))
                assert not cancelling.done()
                go_on.set()
                assert (await cancelling)["state"] == "cancelled"
            assert all(note(world, disk).top for disk in disks)

    run(work)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["slow-save", "dies-at-rest", "dies-switched"])
def test_its_process_dies(world: World, kind: str, how: str) -> None:
    """What it has written is there when it is started again, on whichever file."""

    async def work() -> None:
        async with world:
            disks = image(world, kind), image(world, kind, "xvdb")
            live = await creates(world, how, disks=disks)
            for disk in disks:
                writes(live, disk, 1)
            before = len(descriptors())
            begun = await world.call("checkpoint", {}, domain="web")
            if how == "slow-save":
                await world.until(lambda: "save" in words(live))
                end(live)
            task = world.services.tasks.get(begun["id"])
            await within(task.over())
            assert task.failure is not None
            assert "has just ended" in task.failure.message
            await within(live.gone.wait())
            assert (world.names, helpers_of(world.at), kept(world), parts(world)) == ([], [], [], [])
            assert len(descriptors()) <= before
            assert [points(world, disk) for disk in disks] == [[], []]
            live = await creates(world, disks=disks)
            await goes_on(world, live, disks)

    run(work)


# --- a xend that is killed on the way

STEPS: dict[str, tuple[object, str]] = {
    "made": (Switching, "_put_above"),
    "standing by": (saver, "written"),
    "switched": (Layers, "commit"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("then", ["checkpoint", "ends", "is killed"])
def test_xend_is_killed(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: str, step: str, then: str
) -> None:
    """The next one finds out what is on top, or whoever opens the disk: the guest has written there."""
    disks = image(world, kind), image(world, kind, "xvdb")

    async def first() -> None:
        async with world:
            live = await creates(world, disks=disks)
            for disk in disks:
                writes(live, disk, 0)
            with killed(monkeypatch, *STEPS[step]):
                await world.refusal(world.task("checkpoint", {}, domain="web"))
            for disk in disks if step != "made" else disks[:1]:
                assert note(world, disk).next
            for disk in disks:
                writes(live, disk, 1)

    async def second() -> None:
        async with world:
            await world.settled()
            live = world.live()
            assert kept(world) == []
            if then == "checkpoint":
                await goes_on(world, live, disks)
            elif then == "ends":
                await ends(world, disks, {}, 1)
            else:
                end(live)
                await within(live.gone.wait())
                await goes_on(world, await creates(world, disks=disks), disks)

    run(first)
    run(second)


# --- storage daemons that die


@pytest.mark.parametrize("kind", KINDS)
def test_its_storage_daemons_die_while_it_is_saved(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """It goes on with others; the checkpoint does not come to be."""
    monkeypatch.setattr(supervisor, "AGAIN_S", 0.01)
    monkeypatch.setattr(mending, "AGAIN_S", 0.0)

    async def work() -> None:
        async with with_two(world, kind) as (live, disks):
            behave(live, "slow-save")
            begun = await world.call("checkpoint", {}, domain="web")
            await world.until(lambda: "save" in words(live))
            for disk in disks:
                flushes(live, disk)
            for entry in live.record.devices:
                (helper,) = entry.helpers
                helper.process.kill()
                await world.until(lambda: not helper.alive)  # noqa: B023
            behave(live)
            with Direct(live) as direct:
                direct.ask("rest")
            task = world.services.tasks.get(begun["id"])
            await within(task.over())
            assert task.failure is not None
            assert "its storage daemon does not go along" in task.failure.message
            lost = [{**LOST_DISK, "devid": disk.devid} for disk in disks]
            add(live, *lost)
            await world.until(lambda: words(live).count("reconnect-device") == 2)
            await world.settled()
            again = [request for request in asked(live) if request["do"] == "reconnect-device"]
            assert {request["description"]["type"] for request in again} == {"nbd"}

    run(work)


# --- what else goes on meanwhile


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("behaviour", ["slow-save", "stuck"])
def test_xend_ends_meanwhile(world: World, kind: str, behaviour: str) -> None:
    disks = image(world, kind), image(world, kind, "xvdb")

    async def first() -> None:
        async with world:
            live = await creates(world, behaviour, disks=disks)
            for disk in disks:
                writes(live, disk, 0)
            await world.call("checkpoint", {}, domain="web")
            last = "save" if behaviour == "slow-save" else "configure-device"
            await world.until(lambda: words(live).count(last) == (1 if last == "save" else 2))
            for disk in disks:
                writes(live, disk, 1)

    async def second() -> None:
        async with world:
            await world.settled()
            live = world.live()
            behave(live)
            assert (kept(world), parts(world), live.record.parts) == ([], [], [])
            await goes_on(world, live, disks)

    run(first)
    run(second)


@pytest.mark.parametrize("kind", KINDS)
def test_cancelled_twice(world: World, kind: str) -> None:
    """By two who do not know of each other."""

    async def work() -> None:
        async with with_two(world, kind) as (live, _):
            behave(live, "stuck")
            begun = await world.call("checkpoint", {}, domain="web")
            await world.until(lambda: words(live).count("configure-device") == 2)
            both = (world.call("cancel", task=begun["id"]) for _ in range(2))
            assert [shown["state"] for shown in await asyncio.gather(*both)] == ["cancelled"] * 2

    run(work)


async def rename(world: World, live: Live) -> None:
    await world.call("rename", {"name": "other"}, domain="web")
    assert live.logs == state(world, "other")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("when", ["before", "while", "after"])
def test_renamed(world: World, monkeypatch: pytest.MonkeyPatch, kind: str, when: str) -> None:
    """Its storage daemons know their files by the names that they had, before a checkpoint over which xend was killed,
    or after it; or while one is made: whatever becomes of checkpoints, nothing that was written is lost."""
    disks = image(world, kind), image(world, kind, "xvdb")

    async def first() -> None:
        async with world:
            live = await creates(world, "slow-save" if when == "while" else "", disks=disks)
            for disk in disks:
                writes(live, disk, 0)
            if when == "before":
                await rename(world, live)
            if when == "while":
                begun = await world.call("checkpoint", {}, domain="web")
                await world.until(lambda: "save" in words(live))
                await rename(world, live)
                behave(live)
                with Direct(live) as direct:
                    direct.ask("rest")
                await task_over(world, begun)
                assert not state(world).exists(), "nothing comes where it was"
            else:
                with killed(monkeypatch, *STEPS["switched"]):
                    await world.refusal(world.task("checkpoint", {}, domain=live.name))
            for disk in disks:
                writes(live, disk, 1)
            if when == "after":
                await rename(world, live)

    async def second() -> None:
        async with world:
            await world.settled()
            live = world.live("other")
            await task_over(world, await world.call("checkpoint", {"name": "last"}, domain="other"))
            for disk in disks:
                assert reads(live, disk) == 1
                writes(live, disk, 2)
            for one in kept(world, "other"):
                for disk in disks:
                    made = layers(world, disk, "other")
                    path, _ = made.frozen(one.point)
                    form = made.format(made.known().points[one.point])
                    assert first_byte(path, form) == (1 if one.name == "last" else 0)
            await world.call("destroy", domain="other")
            again = await world.create(replace(live.record.config, name="other"))
            assert [reads(again, disk) for disk in disks] == [2, 2]
            await world.call("destroy", domain="other")

    run(first)
    run(second)


async def task_over(world: World, begun: dict[str, Any]) -> None:
    """However it ends."""
    await within(world.services.tasks.get(begun["id"]).over())


@pytest.mark.parametrize(
    ("kind", "had"),
    [(kind, had) for kind in KINDS for had in (False, True)],
)
def test_renamed_it_has_checkpoints_as_before(world: World, kind: str, had: bool) -> None:
    async def work() -> None:
        async with world:
            live = await creates(world, disks=(image(world, kind),))
            if had:
                await checkpoint(world)
            await rename(world, live)
            for name in ("two", "three"):
                await world.task("checkpoint", {"name": name}, domain="other")
            await world.call("destroy", domain="other")

    run(work)


def test_renamed_its_disk_cannot_be_served_anew(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a while: it goes on when it can be."""
    monkeypatch.setattr(supervisor, "AGAIN_S", 0.01)
    monkeypatch.setattr(mending, "AGAIN_S", 0.0)

    async def work() -> None:
        async with world:
            disk = image(world, "overlay")
            live = await creates(world, disks=(disk,))
            writes(live, disk, 1)
            await rename(world, live)
            with without("qemu-storage-daemon")(monkeypatch):
                error = await world.refusal(world.task("checkpoint", {}, domain="other"))
                assert "qemu-storage-daemon is not installed" in error.message
                add(live, LOST_DISK)
                await world.until(lambda: bool(live.record.wants))
            await world.until(lambda: "reconnect-device" in words(live))
            await world.settled()
            assert (reads(live, disk), len(helpers_of(world.at)), len(helpers_known(live))) == (1, 1, 1)
            await world.task("checkpoint", {}, domain="other")
            await world.call("destroy", domain="other")

    run(work)


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_is_detached_meanwhile(world: World, kind: str) -> None:
    """The checkpoint does not come to be, or without that disk; nothing is lost."""

    async def work() -> None:
        async with world:
            disks = image(world, kind), image(world, kind, "xvdb")
            live = await creates(world, "slow-save", disks=disks)
            for disk in disks:
                writes(live, disk, 1)
            begun = await world.call("checkpoint", {}, domain="web")
            await world.until(lambda: "save" in words(live))
            detaching = asyncio.ensure_future(world.call("detach_disk", domain="web", vdev="xvdb"))
            await world.until(lambda: "detach" in words(live))
            behave(live)
            with Direct(live) as direct:
                direct.ask("rest")
            await within(world.services.tasks.get(begun["id"]).over())
            await detaching
            assert len(helpers_of(world.at)) == len(helpers_known(live)) == 1
            await world.call("attach_disk", {"disk": disks[1].to_mapping()}, domain="web")
            behave(live)
            assert [reads(live, disk) for disk in disks] == [1, 1]
            await checkpoint(world, "last")
            await world.call("destroy", domain="web")

    run(work)


@pytest.mark.parametrize("had", [True, False])
def test_a_disk_is_attached_just_before(world: World, had: bool) -> None:
    """While the checkpoint waits for its turn."""

    async def work() -> None:
        async with world:
            live = await creates(world, disks=(image(world),) if had else ())
            async with world.services.attaching.turn(live):
                begun = await world.call("checkpoint", {}, domain="web")
                await asyncio.sleep(0)
                live.record.config = replace(live.record.config, disks=(*live.record.config.disks, NBD))
            task = world.services.tasks.get(begun["id"])
            await within(task.over())
            assert task.failure is not None
            assert "disk xvdz: a checkpoint cannot keep what is on it" in task.failure.message

    run(work)


def test_a_disk_grows_after_a_killed_xend(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A raw image, over which something stood by that its process has never used."""
    disk = image(world)

    async def first() -> None:
        async with world:
            await creates(world, disks=(disk,))
            with killed(monkeypatch, *STEPS["standing by"]):
                await world.refusal(world.task("checkpoint", {}, domain="web"))

    async def second() -> None:
        async with world:
            await world.settled()
            bigger = {"resize_bytes": 2 << 20}
            error = await world.refusal(world.call("configure_disk", bigger, domain="web", vdev="xvda"))
            assert "was broken off: make another one first" in error.message
            await checkpoint(world)
            await world.call("configure_disk", bigger, domain="web", vdev="xvda")
            await world.call("destroy", domain="web")

    run(first)
    run(second)
