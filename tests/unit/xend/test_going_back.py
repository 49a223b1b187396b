"""A domain's disks go back to a checkpoint before it starts, and are as they were if it does not."""

import subprocess
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.disks.kit import qcow2
from tests.unit.xend.kit import World, config, names, run
from tests.unit.xend.saving_kit import UUID, first_byte, image, layers, note, state
from xenion.api.errors import ApiError
from xenion.config.disk import Disk, Format
from xenion.xend.disks.layers import Layers
from xenion.xend.going_back import GoingBack
from xenion.xend.record import Record

pytestmark = pytest.mark.usefixtures("tools")
DISKS = (("raw", "xvda"), ("qcow2", "xvdb"))


class Bench:
    """A domain that does not run; xend forgets all between two calls. `fill` is what the first sector of all is."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.disks = tuple(image(world, kind, vdev) for kind, vdev in DISKS)
        self.others: tuple[Disk, ...] = ()

    @property
    def made(self) -> Record:
        disks = (*self.others, *self.disks)
        return Record(UUID, 1, "web", "web", config(self.world.at, disks=disks))

    def layers(self, disk: Disk) -> Layers:
        return layers(self.world, disk)

    def top(self, disk: Disk) -> tuple[Path, Format]:
        made = self.layers(disk)
        found = made.read()
        name = found.top if found else ""
        return made.path(name), made.format(name)

    def write(self, fill: int) -> None:
        for disk in self.disks:
            path, form = self.top(disk)
            self.io(path, form, f"write -q -P {fill} 0 512")

    def io(self, path: Path, form: Format, command: str) -> None:
        subprocess.run(["qemu-io", "-f", form.value, "-c", command, str(path)], check=True)

    def read(self) -> list[int]:
        return [first_byte(*self.top(disk)) for disk in self.disks]

    async def point(self, name: str) -> None:
        with self.world.services.devices.disk_place(self.made) as place:
            for disk in self.disks:
                await self.layers(disk).begin(place)
                self.layers(disk).commit(name)

    def files(self) -> list[str]:
        folder = state(self.world) / "layers"
        return [name for name in names(folder) if name.endswith(".qcow2")]

    def back(self, point: str) -> GoingBack:
        return GoingBack(self.world.services.devices, point)


Work = Callable[[Bench], Coroutine[Any, Any, None]]


def at_two(world: World, work: Work) -> None:
    """It was 1 at `one`, 2 at `two`, and is 3 now."""

    async def whole() -> None:
        async with world:
            bench = Bench(world)
            bench.write(1)
            await bench.point("one")
            bench.write(2)
            await bench.point("two")
            bench.write(3)
            before = descriptors()
            await work(bench)
            assert set(descriptors()) <= set(before)

    run(whole)


@pytest.mark.parametrize(("point", "fill"), [("one", 1), ("two", 2)])
def test_all_of_them_go_back(world: World, point: str, fill: int) -> None:
    async def work(bench: Bench) -> None:
        going = bench.back(point)
        await going.go(bench.made)
        assert bench.read() == [fill, fill]
        bench.write(9)
        going.finish()
        assert bench.read() == [9, 9]
        assert len(bench.files()) == 4, "what was written after two is gone"
        await bench.back("two").go(bench.made)
        assert bench.read() == [2, 2]

    at_two(world, work)


def test_undone(world: World) -> None:
    async def work(bench: Bench) -> None:
        before, notes = bench.files(), [note(world, disk) for disk in bench.disks]
        going = bench.back("one")
        await going.go(bench.made)
        going.undo()
        going.undo()
        assert bench.read() == [3, 3]
        assert bench.files() == before
        now = [note(world, disk) for disk in bench.disks]
        assert [(one.top, one.fresh, one.points, one.frozen) for one in now] == [
            (one.top, one.fresh, one.points, one.frozen) for one in notes
        ]

    at_two(world, work)


def test_one_that_is_there_already_stays(world: World) -> None:
    """Nothing was written to it since; the other one goes back."""

    async def work(bench: Bench) -> None:
        await bench.back("two").go(bench.made)
        bench.io(*bench.top(bench.disks[1]), "write -q -P 7 0 512")
        tops = [note(world, disk).top for disk in bench.disks]
        going = bench.back("two")
        await going.go(bench.made)
        now = [note(world, disk).top for disk in bench.disks]
        assert (now[0] == tops[0], now[1] == tops[1]) == (True, False)
        assert bench.read() == [2, 2]
        going.undo()
        assert [note(world, disk).top for disk in bench.disks] == tops
        assert bench.read() == [2, 7]

    at_two(world, work)


def test_disks_without_a_point(world: World) -> None:
    """What it only reads, an empty drive, and what is its server's."""

    async def work(bench: Bench) -> None:
        bench.others = (
            Disk(target=str(world.at / "gone"), vdev="xvdc", writable=False),
            Disk(target="", vdev="xvdd", cdrom=True, writable=False),
            Disk(target="nbd://192.0.2.1/x", vdev="xvde", format=Format.NBD),
        )
        await bench.back("one").go(bench.made)
        assert bench.read() == [1, 1]

    at_two(world, work)


def gone(bench: Bench) -> None:
    bench.layers(bench.disks[1]).forget("one")


def changed(bench: Bench) -> None:
    bench.io(Path(bench.disks[1].target), Format.QCOW2, "write -q -P 8 0 512")


def missing(bench: Bench) -> None:
    Path(bench.disks[1].target).unlink()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (gone, "the checkpoint was deleted"),
        (changed, "was changed since the checkpoint was made: put it back as it was"),
        (missing, "does not exist"),
    ],
)
def test_one_that_cannot_go_back(world: World, spoil: Callable[[Bench], None], why: str) -> None:
    """Those that have gone before come back."""

    async def work(bench: Bench) -> None:
        spoil(bench)
        going = bench.back("one")
        with pytest.raises(ApiError) as caught:
            await going.go(bench.made)
        assert caught.value.code == "refused"
        assert caught.value.message.startswith("disk xvdb: ")
        assert why in caught.value.message
        assert first_byte(*bench.top(bench.disks[0])) == 1
        going.undo()
        assert first_byte(*bench.top(bench.disks[0])) == 3
        assert len(bench.files()) == 4

    at_two(world, work)


def test_a_disk_that_has_no_checkpoint(world: World) -> None:
    """The file was tampered with: it is refused, and not written."""

    async def work(bench: Bench) -> None:
        bench.others = (world.disk("xvdc"),)
        going = bench.back("one")
        with pytest.raises(ApiError, match="disk xvdc: what it was then is not there any more"):
            await going.go(bench.made)
        going.undo()
        assert bench.read() == [3, 3]

    at_two(world, work)


def test_what_a_killed_xend_has_left_open_is_decided_first(world: World) -> None:
    async def work(bench: Bench) -> None:
        with world.services.devices.disk_place(bench.made) as place:
            for disk in bench.disks:
                await bench.layers(disk).begin(place)
        for disk in bench.disks:
            path = bench.layers(disk).path(note(world, disk).next)
            bench.io(path, Format.QCOW2, "write -q -P 4 0 512")
        going = bench.back("two")
        await going.go(bench.made)
        assert bench.read() == [2, 2]
        going.undo()
        assert bench.read() == [4, 4]

    at_two(world, work)


def test_what_cannot_be_swept_is_swept_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs: nothing can fail any more."""

    async def work(bench: Bench) -> None:
        def fails(self: Layers) -> None:
            raise ApiError("failed", "not now")

        going = bench.back("one")
        await going.go(bench.made)
        with monkeypatch.context() as patched:
            patched.setattr(Layers, "sweep", fails)
            going.finish()
        assert len(bench.files()) == 6
        for disk in bench.disks:
            bench.layers(disk).sweep()
        assert len(bench.files()) == 4
        assert bench.read() == [1, 1]

    at_two(world, work)


def test_an_image_with_files_below_it(world: World) -> None:
    async def whole() -> None:
        async with world:
            base = qcow2(world.at / "base")
            over = qcow2(world.at / "over", "-F", "qcow2", "-b", str(base))
            bench = Bench(world)
            bench.disks = (Disk(target=str(over), vdev="xvda", format=Format.QCOW2),)
            bench.write(1)
            await bench.point("one")
            bench.write(2)
            await bench.back("one").go(bench.made)
            assert bench.read() == [1]

    run(whole)
