"""save into a pipe: the domain is over when all has been read, or goes on."""

import asyncio
import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.kit import World, end, run, standins, within
from tests.unit.xend.saving_kit import creates, parts, words
from xenion.api.errors import ApiError
from xenion.domain.saved.state import HostDisk, HostState
from xenion.xend import piped
from xenion.xend.disks import overlay
from xenion.xend.piped import Piped
from xenion.xend.savedfile import OpenSaved, open_saved
from xenion.xend.tasks import RunningTask


class Reader:
    """Reads a pipe from a thread, to its end."""

    def __init__(self, world: World) -> None:
        self.path = world.at / "pipe"
        os.mkfifo(self.path)
        self._end = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(self._end, True)
        self.read = b""
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while data := os.read(self._end, 1 << 20):
            self.read += data

    async def drain(self) -> None:
        self._thread.start()
        await asyncio.to_thread(self._thread.join)

    async def save(self, world: World, **more: Any) -> RunningTask:
        """The task, which is over."""
        begun = await world.call("save", {"path": str(self.path), **more}, domain="web")
        self._thread.start()
        task = world.services.tasks.get(begun["id"])
        await within(task.over())
        await asyncio.to_thread(self._thread.join)
        self.hang_up()
        return task

    def hang_up(self) -> None:
        os.close(self._end)

    def saved(self) -> OpenSaved:
        copy = self.path.with_name("copy")
        copy.write_bytes(self.read)
        return open_saved(copy)


def test_saved_and_over(world: World) -> None:
    """With how its disks were at the end."""

    async def work() -> None:
        async with world:
            disk = world.disk("xvda")
            await creates(world, disks=(disk,))
            before, reader = descriptors(), Reader(world)
            task = await reader.save(world)
            assert task.result == {"path": str(reader.path), "size": len(reader.read), "remarks": []}
            assert (world.names, standins(world.at), parts(world)) == ([], [], [])
            now = world.at.joinpath(disk.target).stat()
            with reader.saved() as saved:
                assert saved.head.name == "web"
                assert saved.host.disks == [HostDisk("xvda", now.st_size, now.st_mtime_ns)]
            assert set(descriptors()) <= set(before)

    run(work)


@pytest.mark.parametrize("memory_only", [True, False])
def test_saved_and_kept(world: World, memory_only: bool) -> None:
    """One without disks that it could write to has no more to keep than its memory."""

    async def work() -> None:
        async with world:
            disks = (world.disk("xvda", writable=memory_only),)
            live = await creates(world, disks=disks)
            reader = Reader(world)
            task = await reader.save(world, keep=True, memory_only=memory_only)
            assert task.result == {
                "path": str(reader.path),
                "size": len(reader.read),
                "remarks": [],
                "held_s": task.result["held_s"],
            }
            assert (words(live), world.names) == (["save"], ["web"])
            reader.saved().close()
            await world.call("destroy", domain="web")

    run(work)


def test_what_is_on_its_disks_needs_a_file(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await creates(world, disks=(world.disk("xvda"),))
            reader = Reader(world)
            refusal = await world.refusal(
                world.call("save", {"path": str(reader.path), "keep": True}, domain="web")
            )
            assert (refusal.code, "has to be in a file" in refusal.message) == ("refused", True)
            assert words(live) == []
            reader.hang_up()
            await world.call("destroy", domain="web")

    run(work)


def test_nobody_reads_it(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await creates(world)
            reader = Reader(world)
            reader.hang_up()
            refusal = await world.refusal(world.call("save", {"path": str(reader.path)}, domain="web"))
            assert (refusal.code, refusal.message) == ("refused", f"{reader.path}: nobody reads it")
            assert words(live) == []
            await world.call("destroy", domain="web")

    run(work)


@pytest.mark.parametrize("keep", [True, False])
def test_a_reader_that_goes_away(world: World, keep: bool) -> None:
    """Before it has read the end: the guest is told to go on."""

    async def work() -> None:
        async with world:
            live = await creates(world)
            reader = Reader(world)
            begun = await world.call("save", {"path": str(reader.path), "keep": keep}, domain="web")
            reader.hang_up()
            task = world.services.tasks.get(begun["id"])
            await within(task.over())
            assert task.failure is not None
            assert task.failure.message == "web cannot be saved: nobody reads the pipe any more; it goes on"
            assert (words(live), world.names) == (["save", "cancel-save"], ["web"])
            await world.call("destroy", domain="web")

    run(work)


@pytest.mark.parametrize("how", ["refused", "cancelled", "killed"])
def test_what_is_not_whole(world: World, how: str) -> None:
    """Who reads it finds that it is cut off."""

    async def work() -> None:
        async with world:
            live = await creates(world, "no-save" if how == "refused" else "slow-save")
            reader = Reader(world)
            begun = await world.call("save", {"path": str(reader.path)}, domain="web")
            task = world.services.tasks.get(begun["id"])
            if how != "refused":
                await world.until(lambda: words(live) == ["save"])
            if how == "cancelled":
                await world.call("cancel", task=begun["id"])
            elif how == "killed":
                end(live)
            await within(task.over())
            assert task.state == ("cancelled" if how == "cancelled" else "failed")
            await reader.drain()
            why = "it is not a saved domain" if how == "refused" else "it is cut off"
            with pytest.raises(ApiError, match=why):
                reader.saved()
            reader.hang_up()
            if how != "killed":
                assert world.names == ["web"]
                await world.call("destroy", domain="web")

    run(work)


@pytest.mark.parametrize("keep", [True, False])
def test_it_is_of_no_use_before_all_but_the_end_has_been_read(
    world: World, keep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or somebody could let it go on elsewhere, and it goes on here."""

    async def work() -> None:
        async with world:
            live = await creates(world)
            reader, seen = Reader(world), []
            settle = Piped.settle

            async def settled(sink: Piped, host: HostState) -> None:
                await settle(sink, host)
                seen.append(words(live))
                with pytest.raises(ApiError, match="it is cut off"):
                    reader.saved()

            monkeypatch.setattr(Piped, "settle", settled)
            await reader.save(world, keep=keep)
            reader.saved().close()
            assert seen == [["save"]]
            if keep:
                await world.call("destroy", domain="web")

    run(work)


@pytest.mark.parametrize("how", ["stuck", "cancelled", "no overlays"])
def test_what_goes_on_is_cut_off_there(world: World, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads on after it was given up."""

    def full(logs: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if how == "stuck":
        monkeypatch.setattr(piped, "PATIENCE_S", 0.05)
    elif how == "no overlays":
        monkeypatch.setattr(overlay, "keep", full)

    async def work() -> None:
        settle, settling = Piped.settle, asyncio.Event()

        async def settles(sink: Piped, host: HostState) -> None:
            settling.set()
            await settle(sink, host)

        monkeypatch.setattr(Piped, "settle", settles)
        async with world:
            live = await creates(world)
            reader = Reader(world)
            begun = await world.call("save", {"path": str(reader.path)}, domain="web")
            task = world.services.tasks.get(begun["id"])
            reading = None
            if how == "no overlays":
                reading = asyncio.ensure_future(reader.drain())
            elif how == "cancelled":
                await within(settling.wait())  # it waits for its reader
                await world.call("cancel", task=begun["id"])
            await within(task.over())
            assert task.state == ("cancelled" if how == "cancelled" else "failed")
            assert (words(live), world.names) == (["save", "cancel-save"], ["web"])
            await (reading or reader.drain())
            with pytest.raises(ApiError, match="it is cut off"):
                reader.saved()
            reader.hang_up()
            await world.call("destroy", domain="web")

    run(work)
