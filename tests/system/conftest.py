"""What the system tests share: xm, kernels, guests, and the rule that no test leaves a process behind."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system import build, guests
from tests.system.disk_guest import PACKAGES, DebianGuest, Image
from tests.system.other_user import Other
from tests.system.xm import Xm
from xenion.images import debian as debian_packages
from xenion.images.apt import AptError
from xenion.images.cache import CacheError
from xenion.images.debian import ImageError

Kernel = Callable[..., Path]


def _fetched(what: Callable[[], Path]) -> Path:
    try:
        return what()
    except (AptError, CacheError, ImageError, OSError) as error:
        pytest.skip(f"Debian's images cannot be had: {error}")


@pytest.fixture(scope="session")
def cloud_kernel() -> Path:
    return _fetched(lambda: debian_packages.kernel("linux-image-cloud-amd64").vmlinuz)


@pytest.fixture(scope="session")
def generic_kernel() -> Path:
    return _fetched(lambda: debian_packages.kernel("linux-image-amd64").vmlinuz)


@pytest.fixture(scope="session")
def busybox() -> Path:
    return _fetched(debian_packages.busybox)


@pytest.fixture(scope="session")
def program() -> Callable[[str], Path]:
    """Builds a static program of programs/."""
    if build.compiler() is None:
        pytest.skip("no C compiler to build the guests' programs with: install gcc, or name one in CC")
    return build.program


@pytest.fixture(scope="session")
def tiny_kernel() -> Kernel:
    """Builds a kernel of kernels/tiny.S."""
    if build.compiler() is None:
        pytest.skip("no C compiler to build tiny kernels with: install gcc, or name one in CC")
    return build.tiny_kernel


def _xm(folder: Path) -> Iterator[Xm]:
    made = Xm(folder)
    yield made
    left = made.end_all()
    assert not left, f"the test left processes behind: {left}"


@pytest.fixture
def xm(tmp_path: Path) -> Iterator[Xm]:
    yield from _xm(tmp_path)


@pytest.fixture(scope="session")
def debian_guest(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """An image, built by the real `xm image build`: for guests on overlays, never to be written into.

    The first time it takes a minute, later it comes out of the user's cache.
    """
    if shutil.which("mmdebstrap") is None:
        pytest.skip("there is no mmdebstrap to build a Debian image with: apt-get install mmdebstrap")
    folder = tmp_path_factory.mktemp("image")
    xm, key = Xm(folder), _ssh_key(folder)
    xm.environment["XDG_DATA_HOME"] = str(folder)
    door = ["--no-ssh-key"] if key is None else ["--ssh-key", f"{key}.pub"]
    done = xm.run(
        "image", "build", "debian", "tester", "--packages", ",".join(PACKAGES), *door, "--json", timeout_s=900
    )
    if done.status and ("apt-get install" in done.stderr or "cannot be unpacked" in done.stderr):
        pytest.skip(f"a Debian image cannot be built here: {done.stderr.splitlines()[-1]}")
    assert done.status == 0, done.stderr
    told = json.loads(done.stdout)
    return Image(
        folder=Path(told["folder"]),
        kernel=Path(told["kernel"]),
        initrd=Path(told["initrd"]),
        disk=Path(told["disk"]),
        cmdline=told["cmdline"],
        hostname=told["hostname"],
        release=told["release"],
        key=key,
    )


def _ssh_key(folder: Path) -> Path | None:
    """None: there is no ssh here."""
    if shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        return None
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    return key


@pytest.fixture(scope="session")
def shared_debian(
    tmp_path_factory: pytest.TempPathFactory, debian_guest: Image
) -> Iterator[Callable[[], DebianGuest]]:
    """Gives the guest that all tests of disks and networks share, booted anew after one that has not left it as it
    was: booting takes long."""
    xm = Xm(tmp_path_factory.mktemp("debian"))
    guest = DebianGuest(xm, debian_guest, "debian")

    def give() -> DebianGuest:
        if not guest.untouched():
            guest.end()
            guest.boot(cloud_hostname="cloudy")
        return guest

    yield give
    guest.end()
    left = xm.end_all()
    assert not left, f"the tests left processes behind: {left}"


@pytest.fixture
def debian(shared_debian: Callable[[], DebianGuest]) -> Iterator[DebianGuest]:
    """A Debian that runs, on the user network, with a way in; a test takes away again what it has attached."""
    guest = shared_debian()
    yield guest
    assert guest.untouched(), "the test left devices in the guest that others use too"


class GuestMaker:
    """Writes the configuration of a Linux guest that runs a script."""

    def __init__(self, xm: Xm, kernel: Path, busybox: Path) -> None:
        self._xm = xm
        self._kernel = kernel
        self._busybox = busybox

    def __call__(
        self, script: str, *, programs: dict[str, Path] | None = None, extra: str = "quiet", **keys: object
    ) -> Path:
        """The configuration file; `keys` win over what a test guest has by default."""
        data = guests.ramdisk(self._busybox, script, programs or {})
        path = self._xm.folder / f"initramfs-{abs(hash(data)):x}.gz"
        path.write_bytes(data)
        chosen = {
            "kernel": self._kernel,
            "ramdisk": path,
            "extra": f"console=hvc0 {extra}",
            "memory": 128,
            "on_reboot": "destroy",
        }
        return self._xm.config(**(chosen | keys))


@pytest.fixture
def guest(xm: Xm, cloud_kernel: Path, busybox: Path) -> GuestMaker:
    return GuestMaker(xm, cloud_kernel, busybox)


@pytest.fixture
def generic_guest(xm: Xm, generic_kernel: Path, busybox: Path) -> GuestMaker:
    return GuestMaker(xm, generic_kernel, busybox)


@pytest.fixture
def needs_memory() -> Callable[[int], None]:
    """Skips where the host has less than so many MiB to give."""

    def check(mib: int) -> None:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:") and int(line.split()[1]) // 1024 < mib:
                pytest.skip(f"the host has less than {mib} MiB available")

    return check


@pytest.fixture
def unprivileged() -> tuple[int, int]:
    """User and group ids of an ordinary user, for root only."""
    import os
    import pwd

    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can become somebody else")
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


@pytest.fixture
def other(unprivileged: tuple[int, int]) -> Iterator[Other]:
    folder = Path(tempfile.mkdtemp(prefix="xenion-other-"))
    made = Other(unprivileged, folder)
    if made.run("version").returncode:
        pytest.skip("another user cannot read this checkout")
    yield made
    left = made.xm.end_all()
    shutil.rmtree(folder)
    assert not left
