"""save, restore: a domain is in a file as a whole, or goes on; and comes back once, if nothing has changed."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.kit import STANDIN, World, asked, config, end, folders, names, run, standins, within
from xenion.api.errors import ApiError
from xenion.config.domain import DomainConfig
from xenion.domain.saved.format import DONE, HEAD, NUMBER, STATE, SaveError, Writer
from xenion.domain.saved.state import Head, HostDisk, HostState, encode
from xenion.xend import process, savedfile, tasks
from xenion.xend.handlers import saving
from xenion.xend.live import Live
from xenion.xend.part import Part
from xenion.xend.savedfile import append_host, open_saved

UUID = "00000000-0000-4000-8000-00000000000a"
CONTENT = "content"
"""In the test's folder: what a stand-in's save consists of."""
SAVING = f"""
import os, sys
sys.path.insert(0, {str(STANDIN.parent)!r})
import json, signal, standin

class Saving(standin.Standin):
    def boot(self):
        super().boot()
        saved = self.fds.get("saved", -1)
        if saved >= 0:
            size = os.fstat(saved).st_size
            self.asked.append({{"do": "goes-on", "at": os.lseek(saved, 0, os.SEEK_CUR), "size": size}})

    def on_save(self, request, fds):
        if "no-save" in self.mode:
            return "it cannot be saved now"
        with open(os.path.join(os.environ["XDG_RUNTIME_DIR"], {CONTENT!r}), "rb") as file:
            os.write(fds[0], file.read())
        if "slow-save" in self.mode:
            return None
        for link in self.links:
            self.send(link, {{"id": request["id"], "progress": [1, 2]}})
        return {{}}

    def on_cancel_save(self, request, fds):
        if self.dump is not None:
            link, number = self.dump
            self.send(link, {{"id": number, "error": "the save was cancelled"}})
        return {{}}

    def on_finish_save(self, request, fds):
        if "dies" in self.mode:
            os._exit(1)
        return {{"saved": "lost" not in self.mode}}

    def answer(self, link, request, fds):
        super().answer(link, request, fds)
        if request["do"] == "save" and "slow-save" in self.mode:
            self.dump = link, request["id"]
        if request["do"] == "finish-save" and not request["keep"] and not {{"lost", "stays"}} & set(self.mode):
            self.add("ended", reason="saved", action="destroy", report=False, core=False)
            self.leave(0)

signal.signal(signal.SIGINT, signal.SIG_IGN)
with os.fdopen(int(sys.argv[1]), "rb") as file:
    order = json.load(file)
Saving(order).run()
"""


@pytest.fixture
def world(tmp_path: Path, standins: None, monkeypatch: pytest.MonkeyPatch) -> World:
    """Its stand-ins can be saved."""
    program = tmp_path / "saving.py"
    program.write_text(SAVING)
    monkeypatch.setattr(process, "PROGRAM", (sys.executable, "-IS", str(program)))
    return World(tmp_path)


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


# --- save


def test_saved_and_over(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await creates(world)
            path = world.at / "here"
            result = await world.task("save", {"path": str(path)}, domain="web")
            assert result == {"path": str(path), "size": result["size"], "remarks": []}
            assert path.stat().st_mode & 0o777 == 0o600
            assert live.gone.is_set()
            assert (world.names, standins(world.at), parts(world)) == ([], [], [])
            with open_saved(path) as saved:
                assert (saved.head.domid, saved.head.name) == (1, "web")
                assert saved.host == HostState(lasting=True, disks=[])

    run(work)


@pytest.mark.parametrize("keep", [True, False])
def test_the_size_is_the_files(world: World, keep: bool) -> None:
    async def work() -> None:
        async with world:
            await creates(world)
            path = world.at / "here"
            result = await world.task("save", {"path": str(path), "keep": keep}, domain="web")
            assert result["size"] == path.stat().st_size

    run(work)


def test_saved_and_kept(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await creates(world)
            path = world.at / "here"
            for _ in range(2):
                told = await world.task("save", {"path": str(path), "keep": True}, domain="web")
                assert told["held_s"] >= 0
            assert words(live) == ["save", "save"]
            assert {request["keep"] for request in asked(live)} == {True}
            assert isinstance(asked(live)[0]["by"], str)
            assert (world.names, live.record.parts, parts(world)) == (["web"], [], [])
            open_saved(path).close()

    run(work)


def test_the_file_has_its_name_before_the_domain_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with world:
            live = await creates(world)
            seen = []
            finish = Part.finish

            def finished(part: Part) -> int:
                size = finish(part)
                seen.append(((world.at / "here").is_file(), words(live)))
                return size

            monkeypatch.setattr(Part, "finish", finished)
            await world.task("save", {"path": str(world.at / "here")}, domain="web")
            assert seen == [(True, ["save"])]

    run(work)


def test_progress_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with world:
            await creates(world)
            begun = await world.call("save", {"path": str(world.at / "here")}, domain="web")
            task = world.services.tasks.get(begun["id"])
            seen = []
            monkeypatch.setattr(task, "step", lambda text, progress=None: seen.append(progress))
            await within(task.over())
            assert 0.5 in seen
            assert task.shown()["state"] == "done"

    run(work)


def test_what_it_has_written_is_noted(world: World) -> None:
    async def work() -> None:
        async with world:
            disk = world.disk("xvda")
            await creates(world, disks=(disk,))
            await world.task("save", {"path": str(world.at / "here")}, domain="web")
            now = Path(disk.target).stat()
            with open_saved(world.at / "here") as saved:
                assert saved.host.disks == [HostDisk("xvda", now.st_size, now.st_mtime_ns)]

    run(work)


def test_one_that_writes_to_a_disk_is_not_kept(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await creates(world, disks=(world.disk("xvda"), world.disk("xvdb", writable=False)))
            before = descriptors()
            path = str(world.at / "here")
            error = await world.refusal(world.call("save", {"path": path, "keep": True}, domain="web"))
            assert (error.code, "write to xvda," in error.message) == ("refused", True)
            assert (words(live), live.record.parts, parts(world)) == ([], [], [])
            assert descriptors() == before

    run(work)


def test_one_that_only_reads_may_be_kept(world: World) -> None:
    async def work() -> None:
        async with world:
            await creates(world, disks=(world.disk("xvdb", writable=False),))
            await world.task("save", {"path": str(world.at / "here"), "keep": True}, domain="web")
            assert world.names == ["web"]

    run(work)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("relative", "bad-request"),
        ("/", "bad-request"),
        ("/x\0y", "bad-request"),
        ("/tmp", "refused"),
        ("/dev/null", "refused"),
        ("/missing/x", "refused"),
    ],
)
def test_paths_that_cannot_be(world: World, path: str, code: str) -> None:
    async def work() -> None:
        async with world:
            live = await creates(world)
            before = descriptors()
            error = await world.refusal(world.call("save", {"path": path}, domain="web"))
            assert error.code == code
            assert descriptors() == before
            assert (words(live), live.record.parts) == ([], [])

    run(work)


@pytest.mark.parametrize("how", ["refused", "cancelled", "killed"])
def test_what_is_not_whole_is_gone(world: World, how: str) -> None:
    async def work() -> None:
        async with world:
            live = await creates(world, "no-save" if how == "refused" else "slow-save")
            (world.at / "here").write_bytes(b"before")
            begun = await world.call("save", {"path": str(world.at / "here")}, domain="web")
            task = world.services.tasks.get(begun["id"])
            if how != "refused":
                await world.until(lambda: bool(parts(world)) and len(asked(live)) == 1)
            if how == "cancelled":
                await world.call("cancel", task=begun["id"])
                assert words(live) == ["save", "cancel-save"]
            elif how == "killed":
                end(live)
            await within(task.over())
            assert task.state == ("cancelled" if how == "cancelled" else "failed")
            assert (world.at / "here").read_bytes() == b"before"
            assert parts(world) == []
            assert how == "killed" or (live.record.parts, world.names) == ([], ["web"])
            assert how != "refused" or words(live) == ["save"]

    run(work)


def no_room(*_: object) -> None:
    raise SaveError("there is no room")


def no_disk(*_: object) -> None:
    raise FileNotFoundError(2, "No such file or directory", "/x.img")


def no_name(part: Part) -> int:
    raise ApiError("refused", "here: Is a directory")


def bug(*_: object) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("at", "name", "does", "says"),
    [
        (savedfile, "append_host", no_room, "there is no room; it goes on"),
        (savedfile, "host_state", no_disk, "it goes on"),
        (Part, "finish", no_name, "Is a directory"),
        (savedfile, "append_host", bug, "bug of xend's"),
    ],
)
def test_a_file_that_cannot_be_finished(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    at: object,
    name: str,
    does: Callable[..., Any],
    says: str,
) -> None:
    """The domain is told to go on, and not to end."""

    async def work() -> None:
        async with world:
            live = await creates(world)
            monkeypatch.setattr(at, name, does)
            error = await world.refusal(world.task("save", {"path": str(world.at / "here")}, domain="web"))
            assert says in error.message
            assert words(live) == ["save", "cancel-save"]
            assert (world.names, live.record.parts) == (["web"], [])
            assert (parts(world), (world.at / "here").exists()) == ([], False)

    run(work)


def test_one_that_has_gone_on_meanwhile_is_told_of(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await creates(world, "lost")
            error = await world.refusal(world.task("save", {"path": str(world.at / "here")}, domain="web"))
            assert "it has gone on" in error.message
            assert (world.names, live.record.parts, parts(world)) == (["web"], [], [])

    run(work)


def test_of_one_that_has_gone_on_there_is_no_file(world: World) -> None:
    async def work() -> None:
        async with world:
            await creates(world, "lost")
            await world.refusal(world.task("save", {"path": str(world.at / "here")}, domain="web"))
            assert not (world.at / "here").exists()

    run(work)


def test_of_one_that_dies_over_the_answer_the_file_stays(world: World) -> None:
    """It may have ended as it was asked to: the file is all that is left of it then."""

    async def work() -> None:
        async with world:
            await creates(world, "dies")
            error = await world.refusal(world.task("save", {"path": str(world.at / "here")}, domain="web"))
            assert error.message.startswith("the file is whole and stays, but web has just ended")
            open_saved(world.at / "here").close()

    run(work)


def test_one_that_does_not_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with world:
            await creates(world, "stays")
            error = await world.refusal(world.task("save", {"path": str(world.at / "here")}, domain="web"))
            assert "does not end" in error.message
            open_saved(world.at / "here").close()

    monkeypatch.setattr(saving, "ENDING_S", 0.01)
    run(work)


def test_too_many_tasks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with world:
            live = await creates(world)
            path = file(world, domid=9)
            before = descriptors()
            monkeypatch.setattr(tasks, "MOST_RUNNING", 0)
            error = await world.refusal(world.call("save", {"path": str(world.at / "h")}, domain="web"))
            assert error.code == "too-many"
            assert (parts(world), live.record.parts) == ([], [])
            await world.call("destroy", domain="web")
            assert live.gone.is_set()
            error = await world.refusal(world.call("restore", {"path": str(path)}))
            assert error.code == "too-many"
            assert len(descriptors()) <= len(before)

    run(work)


def test_the_end_of_xend_leaves_nothing(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await creates(world, "slow-save")
            await world.call("save", {"path": str(world.at / "here")}, domain="web")
            await world.until(lambda: len(asked(live)) == 1)

    run(work)
    assert (parts(world), (world.at / "here").exists()) == ([], False)


def overlay_note(world: World) -> Path:
    """As an overlay that does not last has it."""
    folder = folders(world.at).logs("web") / "disks"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "xvda.qcow2").touch()
    note = folder / "xvda.json"
    note.write_text(f'{{"uuid": "{UUID}", "lasting": false, "base": "/x", "base_bytes": 1, "base_time": 1}}')
    return note


def test_overlays_outlive_what_is_saved(world: World) -> None:
    async def work() -> None:
        async with world:
            await creates(world)
            note = overlay_note(world)
            await world.task("save", {"path": str(world.at / "here")}, domain="web")
            assert note.with_suffix(".qcow2").exists()

    run(work)


def test_overlays_of_one_that_goes_on_are_as_they_were(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with world:
            await creates(world)
            note = overlay_note(world)
            before = note.read_text()
            monkeypatch.setattr(savedfile, "append_host", no_room)
            await world.refusal(world.task("save", {"path": str(world.at / "here")}, domain="web"))
            assert '"lasting": false' in before
            assert '"lasting": false' in note.read_text()

    run(work)


# --- restore


def test_restored_as_it_was(world: World) -> None:
    async def work() -> None:
        async with world:
            path = file(world, domid=9)
            result = await world.task("restore", {"path": str(path)})
            domain = result["domain"]
            assert (domain["name"], domain["domid"], domain["uuid"]) == ("web", 9, UUID)
            assert domain["state"] != "paused"
            assert asked(world.live())[0] == {"do": "goes-on", "at": 0, "size": path.stat().st_size}
            assert world.store.known == {9: UUID}  # type: ignore[attr-defined]
            assert path.is_file()

    run(work)


def test_restored_and_paused(world: World) -> None:
    async def work() -> None:
        async with world:
            result = await world.task("restore", {"path": str(file(world)), "paused": True})
            assert result["domain"]["state"] == "paused"

    run(work)


def test_there_and_back_again(world: World) -> None:
    async def work() -> None:
        async with world:
            disk = world.disk("xvda")
            live = await creates(world, disks=(disk,))
            path = str(world.at / "here")
            for _ in range(3):
                await world.task("save", {"path": path}, domain="web")
                assert live.gone.is_set()
                await world.task("restore", {"path": path})
                live = world.live()
                assert (live.domid, live.uuid, live.record.lasting) == (1, UUID, True)

    run(work)


def test_not_twice(world: World) -> None:
    async def work() -> None:
        async with world:
            path = file(world, domid=9)
            await world.task("restore", {"path": str(path)})
            before = descriptors()
            error = await world.refusal(world.task("restore", {"path": str(path)}))
            assert error.code == "already-exists"
            assert descriptors() == before
            assert world.names == ["web"]

    run(work)


def test_its_id_is_another_ones(world: World) -> None:
    """It gets the next one; its guest goes on believing in its own."""

    async def work() -> None:
        async with world:
            live = await world.create(config(world.at, "other"))
            path = file(world, domid=live.domid)
            domain = (await world.task("restore", {"path": str(path)}))["domain"]
            assert (live.domid, domain["domid"]) == (1, 2)
            assert world.names == ["other", "web"]
            assert world.store.known == {1: live.uuid, 2: UUID}  # type: ignore[attr-defined]

    run(work)


@pytest.mark.parametrize("force", [False, True])
def test_a_disk_that_has_changed(world: World, force: bool) -> None:
    async def work() -> None:
        async with world:
            disk = world.disk("xvda")
            await creates(world, disks=(disk,))
            path = str(world.at / "here")
            await world.task("save", {"path": path}, domain="web")
            os.utime(disk.target, ns=(1, 1))
            before = descriptors()
            if force:
                await world.task("restore", {"path": path, "force": True})
                assert world.names == ["web"]
            else:
                error = await world.refusal(world.call("restore", {"path": path}))
                assert (error.code, "xvda has changed" in error.message) == ("refused", True)
                assert descriptors() == before

    run(work)


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "text", "not whole", "relative"])
def test_files_that_are_none(world: World, kind: str) -> None:
    async def work() -> None:
        async with world:
            path = world.at / "x"
            if kind == "folder":
                path.mkdir()
            elif kind == "pipe":
                os.mkfifo(path)
            elif kind == "text":
                path.write_text("x" * 1000)
            elif kind == "not whole":
                content(path, config(world.at))
            before = descriptors()
            given = "x" if kind == "relative" else str(path)
            error = await world.refusal(world.call("restore", {"path": given}))
            assert error.code == ("bad-request" if kind == "relative" else "refused")
            assert set(descriptors()) <= set(before)

    run(work)


@pytest.mark.parametrize(
    ("name", "value"), [("memory_mib", -1), ("name", "a/b"), ("nonsense", 1), ("uuid", "x")]
)
def test_a_configuration_that_cannot_be_used(world: World, name: str, value: object) -> None:
    """What was saved may have been tampered with."""

    async def work() -> None:
        async with world:
            path = file(world, **{name: value})
            before = descriptors()
            error = await world.refusal(world.call("restore", {"path": str(path)}))
            assert (error.code, "configuration cannot be used" in error.message) == ("refused", True)
            assert set(descriptors()) <= set(before)

    run(work)


@pytest.mark.parametrize("behaviour", ["refuse", "die"])
def test_one_that_does_not_come_back(world: World, behaviour: str) -> None:
    async def work() -> None:
        async with world:
            path = file(world, domid=9, cmdline=behaviour)
            before = descriptors()
            await world.refusal(world.task("restore", {"path": str(path)}))
            await world.until(lambda: not world.names)
            assert set(descriptors()) <= set(before)
            assert world.services.registry.is_free(9)
            content(path, config(world.at), domid=9)
            assert path.is_file()

    run(work)


def test_cancelled_while_it_waits_for_its_turn(world: World) -> None:
    async def work() -> None:
        async with world:
            world.services.starter._turns._value = 0
            before = descriptors()
            begun = await world.call("restore", {"path": str(file(world))})
            await world.call("cancel", task=begun["id"])
            assert world.services.tasks.get(begun["id"]).state == "cancelled"
            assert (world.names, descriptors()) == ([], before)

    run(work)
