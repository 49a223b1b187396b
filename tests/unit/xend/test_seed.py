"""What cloud-init finds in its disk, and where the disk is."""

import io
import json
import os
from pathlib import Path

import pycdlib
import pytest

from tests.unit.xend.kit import World, config, run
from xenion.api.errors import ApiError
from xenion.config.cloud_init import CloudInit
from xenion.config.disk import Disk
from xenion.config.domain import DomainConfig
from xenion.xend import seed

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA me@here"


def disks(*vdevs: str) -> tuple[Disk, ...]:
    return tuple(Disk(target="/x", vdev=vdev) for vdev in vdevs)


def read(path: Path) -> dict[str, bytes]:
    image = pycdlib.PyCdlib()
    image.open(str(path))
    found = {}
    for entry in image.list_children(joliet_path="/"):
        name = entry.file_identifier().decode("utf-16-be", "replace")
        if entry.is_file():
            out = io.BytesIO()
            image.get_file_from_iso_fp(out, joliet_path=f"/{name}")
            found[name] = out.getvalue()
    image.close()
    return found


def made(config: DomainConfig, state: Path) -> Disk:
    async def work() -> Disk:
        disk = await seed.make(config, "a-uuid", state)
        assert disk is not None
        return disk

    found = run(work)
    assert isinstance(found, Disk)
    return found


def refusal(config: DomainConfig, state: Path) -> str:
    with pytest.raises(ApiError) as caught:
        made(config, state)
    assert caught.value.code == "refused"
    assert not list(state.rglob("*.iso"))
    return caught.value.message


def test_nothing_is_made_for_a_domain_without(tmp_path: Path) -> None:
    assert run(lambda: seed.make(config(tmp_path), "a-uuid", tmp_path)) is None
    assert not (tmp_path / seed.FOLDER).exists()


def test_made(tmp_path: Path) -> None:
    (tmp_path / "user").write_text("#cloud-config\nx: 1\n")
    wanted = CloudInit(user_data=tmp_path / "user", ssh_keys=(KEY,))
    disk = made(config(tmp_path, cloud_init=wanted), tmp_path / "state")
    assert (disk.vdev, disk.writable, disk.format) == ("xvdz", False, "raw")
    path = Path(disk.target)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    files = read(path)
    assert files["user-data"] == b"#cloud-config\nx: 1\n"
    meta = json.loads(files["meta-data"])
    assert (meta["instance-id"], meta["local-hostname"]) == ("a-uuid", "web")
    assert KEY in str(meta)
    assert path.stat().st_size % 512 == 0, "a guest sees all of it"
    seed.remove(tmp_path / "state")
    seed.remove(tmp_path / "state")
    assert list((tmp_path / "state").iterdir()) == []


@pytest.mark.parametrize(
    ("used", "free"),
    [((), "xvdz"), (("xvdz",), "xvdy"), (("xvdz1", "xvdy", "sda"), "xvdx"), (("xvdaz",), "xvdz")],
)
def test_the_last_letter_that_is_free(tmp_path: Path, used: tuple[str, ...], free: str) -> None:
    assert seed.free_vdev(config(tmp_path, disks=disks(*used))) == free


def test_no_letter_is_free(tmp_path: Path) -> None:
    every = [f"xvd{chr(ord('a') + n)}" for n in range(26)]
    assert "finds no place" in refusal(
        config(tmp_path, disks=disks(*every), cloud_init=CloudInit()), tmp_path / "state"
    )


def test_files_that_cannot_be_had(tmp_path: Path) -> None:
    path = tmp_path / "user"
    wanted = config(tmp_path, cloud_init=CloudInit(user_data=path))
    assert refusal(wanted, tmp_path / "state") == f"cloud_user_data {path} does not exist: correct the path"
    os.mkfifo(path)
    assert "is not a file" in refusal(wanted, tmp_path / "state")
    path.unlink()
    with path.open("wb") as file:
        file.truncate(1 << 30)
    assert "is the most" in refusal(wanted, tmp_path / "state")


def test_a_domain_has_it_while_it_is_there(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at, disks=(world.disk("xvda"),), cloud_init=CloudInit()))
            path = live.logs / seed.FOLDER / seed.SEED
            listed = (await world.call("disks", domain="web"))["disks"]
            assert [(disk["vdev"], disk["mode"]) for disk in listed] == [("xvda", "w"), ("xvdz", "r")]
            assert listed[1]["target"] == str(path)
            assert [disk.vdev for disk in live.record.config.disks] == ["xvda"], (
                "the next start makes its own"
            )
            error = await world.refusal(
                world.call("attach_disk", {"disk": world.disk("xvdz").to_mapping()}, domain="web")
            )
            assert error.message == "web has a disk xvdz: choose another name"
            await world.call("destroy", domain="web")
            assert not path.parent.exists()

    run(work)


def test_a_managed_domain_gets_a_new_one(world: World) -> None:
    async def work() -> None:
        async with world:
            made = config(world.at, disks=(world.disk("xvda"),), cloud_init=CloudInit(hostname="one"))
            await world.call("define", {"config": made.to_mapping()})
            for _ in range(2):
                await world.task("start", domain="web")
                found = await world.call("disks", domain="web")
                assert [disk["vdev"] for disk in found["disks"]] == ["xvda", "xvdz"]
                await world.call("attach_disk", {"disk": world.disk("xvdb").to_mapping()}, domain="web")
                await world.call("detach_disk", domain="web", vdev="xvdb")
                await world.call("destroy", domain="web")
            (managed,) = world.services.registry.managed
            assert [disk.vdev for disk in managed.config.disks] == ["xvda"]

    run(work)
