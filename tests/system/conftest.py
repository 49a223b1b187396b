"""What the system tests share: xm, kernels, guests, and the rule that no test leaves a process behind."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system import build, guests
from tests.system.xm import Xm
from xenion.images import debian
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
    return _fetched(lambda: debian.kernel("linux-image-cloud-amd64").vmlinuz)


@pytest.fixture(scope="session")
def generic_kernel() -> Path:
    return _fetched(lambda: debian.kernel("linux-image-amd64").vmlinuz)


@pytest.fixture(scope="session")
def busybox() -> Path:
    return _fetched(debian.busybox)


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


@pytest.fixture
def xm(tmp_path: Path) -> Iterator[Xm]:
    made = Xm(tmp_path)
    yield made
    left = made.end_all()
    assert not left, f"the test left processes behind: {left}"


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
