"""What is wanted for a domain is done, and done again when it could not be."""

import time
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.xend.kit import World, add, asked, config, ended, run, within
from xenion.api.errors import ApiError
from xenion.config.cloud_init import CloudInit
from xenion.config.domain import Action
from xenion.config.vif import Attachment, Vif
from xenion.xend import logs
from xenion.xend.entries import without_device
from xenion.xend.live import Live

LAN: Any = {"attachment": Attachment.ISOLATED, "network": "lan"}
PRESERVED = ended("crash", "rename-restart"), {"kind": "preserved", "action": "rename-restart"}


def sent(world: World, what: str) -> list[dict[str, object]]:
    return [request for request in asked(world.live()) if request["do"] == what]


def test_spare_files_are_replaced(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            (live.logs / ".report").write_text("why")
            add(live, ended("crash", "preserve", report=True, time=1e9))
            await world.until(lambda: live.condition.state == "crashed")
            await world.settled()
            assert (live.logs / "crash-20010909-014640.000.txt").read_text() == "why"
            assert live.outcome()["report"] == str(live.logs / "crash-20010909-014640.000.txt")
            assert [request["fds"] for request in sent(world, "report")] == [[str(live.logs / ".report")]]
            assert (live.logs / ".report").read_text() == ""

    run(work)


def test_a_log_that_is_full_is_set_aside(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            (live.logs / "console.log").write_text("much")
            add(live, {"kind": "log-full"})
            await world.until((live.logs / "console.log.1").exists)
            await world.settled()
            assert (live.logs / "console.log.1").read_text() == "much"
            assert (live.logs / "console.log").read_text() == ""
            assert len(sent(world, "log")) == 1

    run(work)


def test_wanted_again_while_it_is_done_it_is_done_again(world: World) -> None:
    async def work() -> None:
        async with world:
            await world.create(config(world.at))
            for name in ("a1", "a2", "a3"):
                await world.call("rename", {"name": name}, domain="1")
            live = world.live("a3")
            await world.settled()
            assert [request["name"] for request in asked(live)][-1] == "a3"

    run(work)


def test_what_cannot_be_done_now_is_done_by_the_next_xend(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def first() -> None:
        async with world:
            live = await world.create(config(world.at))
            with monkeypatch.context() as patch:
                patch.setattr(logs, "new_spare", full)
                add(live, ended("crash", "preserve", report=True))
                await world.until(lambda: bool(caplog.records))
            assert "No space left" in caplog.text
            assert live.record.wants == ["report"]

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    async def second() -> None:
        async with world:
            await world.until(lambda: not world.live().record.wants and bool(sent(world, "report")))

    run(first)
    run(second)


def test_others_deeds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Done as its own are: once, or again when it could not be."""
    monkeypatch.setattr("xenion.xend.supervisor.AGAIN_S", 0.01)

    async def work() -> None:
        async with world:
            live, done = await world.create(config(world.at)), list[str]()

            async def deed(live: Live) -> None:
                done.append(live.name)
                if len(done) < 3:
                    raise ApiError("failed", "not now")

            world.services.errands.take_on("odd", deed)
            live.record.want("odd")
            world.services.supervisor.look_after(live)
            await world.settled()
            assert done == ["web"] * 3

    run(work)


@pytest.mark.parametrize("behaviour", ["", "slow"])
def test_who_never_ran_is_told_of(world: World, behaviour: str) -> None:
    async def work() -> None:
        async with world:
            never: list[str] = []
            world.services.errands.never_ran = lambda live: never.append(live.name)
            begun = await world.call("create", {"config": config(world.at, behaviour=behaviour).to_mapping()})
            await world.until(lambda: "web" in world.names and world.live().linked)
            if not behaviour:
                await within(world.services.tasks.get(begun["id"]).over())
            await world.call("destroy", domain="web")
            assert never == ["web"] * bool(behaviour)

    run(work)


def test_a_successor_takes_the_name(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at, on_crash=Action.RENAME_RESTART))
            add(live, *PRESERVED)
            await world.until(lambda: "web" in world.names and len(world.names) == 2)
            web = world.live()
            assert web.uuid == live.record.successor_uuid
            assert (web.domid, live.domid) == (2, 1)
            assert live.name.startswith("web-2")
            assert live.logs.exists()
            await world.until(lambda: web.condition.boot == 1 and not live.busy)
            assert live.record.wants == []

    run(work)


def test_names_of_those_that_stay_are_free_and_short_enough(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "strftime", lambda *_: "-20260101T000000Z")

    async def work() -> None:
        async with world:
            for end in ("a", "b", "c"):
                await world.create(config(world.at, "x" * 63 + end))
            for live in list(world.services.registry.live.values()):
                add(live, *PRESERVED)
            await world.until(lambda: len(world.names) == 6)
            lives = world.services.registry.live.values()
            await world.until(lambda: all(not live.busy for live in lives))
            assert len(set(world.names)) == 6
            assert all(len(name) <= 64 for name in world.names)

    run(work)


def test_the_name_is_kept_for_the_successor(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            world.services.starter._turns._value = 0  # nothing is built now
            add(live, *PRESERVED)
            await world.until(lambda: live.name != "web")
            error = await world.refusal(world.call("create", {"config": config(world.at).to_mapping()}))
            assert error.code == "already-exists"
            world.services.starter._turns.release()
            await world.until(lambda: "web" in world.names)

    run(work)


def test_a_successor_that_is_refused_is_told_of_once(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            (world.at / "kernel").unlink()
            add(live, *PRESERVED)
            await world.until(lambda: "restart" in world.told())
            await world.settled()
            (entry,) = [e for e in world.services.log.entries() if e["action"] == "restart"]
            assert entry["result"] == "refused"
            assert "web: kernel" in entry["detail"]
            assert len(world.names) == 1

    async def again() -> None:
        async with world:
            await world.until(lambda: all(live.linked for live in world.services.registry.live.values()))
            assert world.told().count("restart") == 1

    run(work)
    run(again)


def test_a_configuration_that_the_process_refuses_changes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            before = live.record.config
            changed = replace(before, memory_mib=17)

            async def refuse(*_: object, **__: object) -> dict[str, object]:
                raise ApiError("wrong-state", "no")

            monkeypatch.setattr(live, "ask", refuse)
            with pytest.raises(ApiError, match="no"):
                await within(world.services.errands.configure(live, changed))
            assert live.record.config == before
            assert live.record.wants == []
            live.busy.add("configuration")
            with pytest.raises(ApiError, match="by somebody else"):
                await within(world.services.errands.configure(live, changed))
            live.busy.clear()

    run(work)


def test_what_goes_while_a_configuration_is_refused_stays_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at, disks=(world.disk("xvda"),)))
            changed = replace(live.record.config, memory_mib=17)

            async def refuse(*_: object, **__: object) -> dict[str, object]:
                live.record.config = without_device(live.record.config, live.record.devices[0])
                raise ApiError("wrong-state", "no")

            monkeypatch.setattr(live, "ask", refuse)
            with pytest.raises(ApiError, match="no"):
                await within(world.services.errands.configure(live, changed))
            assert (live.record.config.disks, live.record.config.memory_mib) == ((), 16)

    run(work)


@pytest.mark.parametrize("managed", [False, True])
def test_what_acts_at_a_start_needs_another_start(world: World, managed: bool) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            live.record.managed = managed
            for more, words in (
                ({"cloud_init": CloudInit()}, "its cloud-init data"),
                ({"console_scrollback_kib": 32}, "its console's scrollback"),
            ):
                changed = replace(live.record.config, **more)
                if managed:
                    await within(world.services.errands.configure(live, changed))
                    assert live.record.config == changed
                else:
                    with pytest.raises(ApiError, match=f"web has {words} from its start on") as caught:
                        await within(world.services.errands.configure(live, changed))
                    assert caught.value.code == "wrong-state"

    run(work)


def test_a_configuration_that_is_too_large_does_no_harm(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            changed = replace(live.record.config, notes=("x" * 70_000,))
            error = await world.refusal(
                world.call("configure", {"config": changed.to_mapping()}, domain="web")
            )
            assert error.code == "too-large"
            await world.call("pause", domain="web")

    run(work)


def test_the_process_gets_the_files_of_the_configuration(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            ramdisk = world.at / "ramdisk"
            ramdisk.touch()
            changed = replace(live.record.config, ramdisk=ramdisk)
            await world.call("configure", {"config": changed.to_mapping()}, domain="web")
            (request,) = sent(world, "configure")
            assert request["fds"] == [str(world.at / "kernel"), str(ramdisk)]

    run(work)


def test_disks_and_interfaces_of_a_running_domain_are_not_configured_away(world: World) -> None:
    async def work() -> None:
        async with world:
            made = config(world.at, disks=(world.disk("xvda"),), vifs=(Vif(**LAN),))
            live = await world.create(made)
            await world.call("configure", {"config": {**made.to_mapping(), "memory_mib": 24}}, domain="web")
            before = live.record.config
            assert before.memory_mib == 24
            changes: list[dict[str, Any]] = [
                {"disks": []},
                {"vifs": []},
                {"disks": [world.disk("xvdb").to_mapping()]},
            ]
            for change in changes:
                changed = {**made.to_mapping(), **change}
                error = await world.refusal(world.call("configure", {"config": changed}, domain="web"))
                assert error.code == "wrong-state"
                assert "web runs with other disks or interfaces" in error.message
            assert live.record.config is before

    run(work)


@pytest.mark.parametrize("lasting", [False, True])
def test_a_successor_lasts_as_long_as_who_gave_it_its_name(world: World, tools: None, lasting: bool) -> None:
    async def work() -> None:
        async with world:
            uuid = "00000000-0000-4000-8000-00000000000a" if lasting else ""
            disk = world.disk("xvda", overlay=True)
            old = await world.create(config(world.at, uuid=uuid, disks=(disk,)))
            add(old, *PRESERVED)
            await world.until(lambda: len(world.names) == 2)
            await world.settled()
            assert old.record.devices == []
            new = world.live("web")
            assert new.record.lasting == old.record.lasting == lasting
            for live in (old, new):
                assert (live.logs / "disks" / "xvda.qcow2").exists(), "it is preserved"
            for live in (old, new):
                await live.stop()
                assert (live.logs / "disks" / "xvda.qcow2").exists() == lasting

    run(work)


def test_connected_again_when_the_store_has_come_back(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            for number in range(1, 4):
                world.store.on_restart()
                world.store.on_restart()
                await world.settled()
                requests = sent(world, "store")
                assert len(requests) >= number
                assert all(len(request["fds"]) == 2 for request in requests)  # type: ignore[arg-type]
            await live.stop()

    run(work)
