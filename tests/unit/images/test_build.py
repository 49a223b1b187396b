"""Building images: of a small base with the real e2fsprogs, and once of Debian itself."""

import socket
import stat
from pathlib import Path

import pytest

from tests.unit.images.bases import RELEASE, SIZE, make_base
from xenion.images import base, build, host, store
from xenion.images.build import Order, TooSmallError
from xenion.images.build import build as build_image
from xenion.images.ext4 import FileSystem
from xenion.images.personal import Personal
from xenion.images.programs import find
from xenion.images.recipe import Recipe
from xenion.images.store import NameTakenError, StoreError
from xenion.images.workshop import RoomError

pytestmark = pytest.mark.skipif(find("mke2fs") is None, reason="e2fsprogs is not here")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3Rr0Y0p0mHkH0m2aXcXo0kz0kSg3cWw8r6Lr1E7x5n me"
RECIPE = Recipe()


@pytest.fixture
def based(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache holds a base of RECIPE."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    make_base(RECIPE, tmp_path)


def order(name: str = "web", *, size: int = SIZE, replace: bool = False, recipe: Recipe = RECIPE) -> Order:
    personal = Personal(hostname=name, keys=(KEY,))
    return Order(name=name, recipe=recipe, personal=personal, size=size, replace=replace)


def make(wanted: Order) -> tuple[store.Image, list[str]]:
    steps: list[str] = []
    return build_image(wanted, report=lambda step, part: steps.append(step), say=steps.append), steps


def left() -> set[str]:
    return {path.name for path in store.folder().iterdir()} - {"lock"} if store.folder().exists() else set()


@pytest.mark.usefixtures("based")
def test_an_image_is_built(tmp_path: Path) -> None:
    image, steps = make(order())
    assert steps[0] == "copying the system"
    assert store.find("web") == image
    assert (image.release, image.packages, image.hostname, image.suite) == (RELEASE, 2, "web", "bookworm")
    assert image.kernel.read_bytes() == b"the kernel"
    assert image.initrd.read_bytes() == b"the initrd"
    assert stat.S_IMODE(image.disk.stat().st_mode) == 0o600
    assert "xvda" in image.config.read_text()
    system = FileSystem(image.disk, tmp_path)
    system.check()
    assert system.read("/etc/hostname") == b"web\n"
    assert image.uuid.encode() in system.read("/etc/fstab")
    assert system.read("/root/.ssh/authorized_keys") == f"{KEY}\n".encode()
    assert left() == {"web"}


@pytest.mark.usefixtures("based")
def test_two_images_of_one_base_have_two_identities() -> None:
    assert make(order("a"))[0].uuid != make(order("b"))[0].uuid
    assert left() == {"a", "b"}


@pytest.mark.usefixtures("based")
@pytest.mark.parametrize("size", [SIZE * 4, SIZE // 2])
def test_another_size(size: int, tmp_path: Path) -> None:
    image, _ = make(order(size=size))
    assert image.disk.stat().st_size == size
    FileSystem(image.disk, tmp_path).check()


@pytest.mark.usefixtures("based")
def test_too_small() -> None:
    with pytest.raises(TooSmallError, match=r"1 MiB is too small: this system needs \d+ MiB at least"):
        make(order(size=1 << 20))
    assert left() == set()


@pytest.mark.usefixtures("based")
def test_a_name_is_taken_until_it_is_to_be_replaced() -> None:
    first, _ = make(order())
    with pytest.raises(NameTakenError, match="There is an image web already: --force replaces it"):
        make(order())
    second, _ = make(order(replace=True))
    assert store.find("web") == second != first
    assert left() == {"web"}


@pytest.mark.usefixtures("based")
def test_an_image_in_use_is_not_replaced() -> None:
    image, _ = make(order())
    with store.unused("web"), pytest.raises(StoreError, match="in use"):
        make(order(replace=True))
    assert store.find("web") == image


@pytest.mark.usefixtures("based")
def test_what_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (KeyboardInterrupt, OSError(28, "No space left on device")):

        def fail(self: object, files: object, error: BaseException | type[BaseException] = error) -> None:
            raise error

        monkeypatch.setattr(FileSystem, "write", fail)
        with pytest.raises((KeyboardInterrupt, OSError)):
            make(order())
        assert left() == set()


@pytest.mark.usefixtures("based")
def test_a_host_that_is_full(tmp_path: Path) -> None:
    with pytest.raises(RoomError, match="cannot be written"):
        build.copy(tmp_path / "none", tmp_path / "out")


def reachable() -> bool:
    try:
        socket.create_connection(("deb.debian.org", 80), timeout=10).close()
    except OSError:
        return False
    return True


@pytest.mark.slow
def test_debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own cache is used: what was built in the last days is not built again."""
    try:
        host.check()
    except host.HostError as error:
        pytest.skip(str(error))
    if base.load(base.folder() / base.key(RECIPE)) is None and not reachable():
        pytest.skip("Debian's mirror cannot be reached")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    image, _ = make(order("debian", size=3 << 30))
    system = FileSystem(image.disk, tmp_path)
    system.check()
    assert image.disk.stat().st_blocks * 512 < 400 << 20
    assert {"bin", "boot", "etc", "lib", "root", "sbin", "usr", "var"} <= set(system.names("/"))
    assert system.names("/dev") == system.names("/run") == system.names("/tmp") == []
    assert system.read("/etc/hostname") == b"debian\n"
    assert system.read("/etc/machine-id") == b""
    assert not [name for name in system.names("/etc/ssh") if name.startswith("ssh_host_")]
    assert "policy-rc.d" not in system.names("/usr/sbin")
    assert not [name for name in system.names("/usr/sbin") if name.endswith(".REAL")]
    assert not [
        name
        for folder in ("apt/apt.conf.d", "dpkg/dpkg.cfg.d")
        for name in system.names(f"/etc/{folder}")
        if "mmdebstrap" in name
    ]
    assert system.mode("/etc/resolv.conf") == stat.S_IFLNK | 0o777
    assert system.mode("/usr/bin/su") == stat.S_IFREG | 0o4755
    wanted = system.names("/etc/systemd/system/multi-user.target.wants")
    assert {"ssh.service", "systemd-networkd.service", "xenion-ssh-host-key.service"} <= set(wanted)
    modules = f"/usr/lib/modules/{image.release}"
    assert "xen-blkfront.ko" in system.names(f"{modules}/kernel/drivers/block")
    assert image.kernel.read_bytes()[0x202:0x206] == b"HdrS"
    assert image.initrd.stat().st_size > 1 << 20
