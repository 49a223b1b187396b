"""Kernels and busybox are fetched by the real apt from a repository in a folder."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from xenion.images import cache, debian
from xenion.images.apt import AptError
from xenion.images.debian import ImageError

if TYPE_CHECKING:
    from tests.unit.images.conftest import Repository

META = "linux-image-amd64"


def offer_kernel(repository: Repository, release: str, version: str) -> None:
    repository.add(
        f"linux-image-{release}",
        version,
        repository.file(f"./boot/vmlinuz-{release}", b"kernel " + version.encode()),
        repository.file(f"./lib/modules/{release}/kernel/drivers/a/b.ko", b"module"),
        repository.file("./usr/share/doc/readme", b"not wanted"),
    )
    repository.add(META, version, depends=f"base (>= 1) | other, linux-image-{release} (= {version})")
    repository.publish()


def contents(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_the_kernel_of_a_meta_package_is_kept_with_its_modules(repository: Repository) -> None:
    offer_kernel(repository, "6.1.0-9-amd64", "6.1.9-1")

    kernel = debian.kernel(META)

    assert kernel.package == "linux-image-6.1.0-9-amd64_6.1.9-1_amd64"
    assert kernel.release == "6.1.0-9-amd64"
    assert kernel.vmlinuz.read_bytes() == b"kernel 6.1.9-1"
    assert kernel.modules is not None
    assert contents(kernel.modules) == {"kernel/drivers/a/b.ko"}
    assert contents(kernel.vmlinuz.parents[1]) == {
        "boot/vmlinuz-6.1.0-9-amd64",
        "lib/modules/6.1.0-9-amd64/kernel/drivers/a/b.ko",
    }


def test_modules_below_usr_are_found(repository: Repository) -> None:
    repository.add(
        "linux-image-6.12.1+deb13-amd64",
        "6.12.1-1",
        repository.file("./boot/vmlinuz-6.12.1+deb13-amd64", b"k"),
        repository.file("./usr/lib/modules/6.12.1+deb13-amd64/kernel/b.ko.xz", b"module"),
    )
    repository.publish()

    kernel = debian.kernel("linux-image-6.12.1+deb13-amd64")

    assert kernel.modules is not None
    assert contents(kernel.modules) == {"kernel/b.ko.xz"}


def test_a_kernel_without_modules_says_so(repository: Repository) -> None:
    repository.add("linux-image-1-small", "1", repository.file("./boot/vmlinuz-1-small", b"k"))
    repository.publish()

    assert debian.kernel("linux-image-1-small").modules is None


def test_busybox_may_be_executed(repository: Repository) -> None:
    repository.add("busybox-static", "1.35", repository.file("./bin/busybox", b"program", mode=0o755))
    repository.publish()

    program = debian.busybox()

    assert program.read_bytes() == b"program"
    assert program.stat().st_mode & 0o777 == 0o755


def test_a_second_request_needs_no_repository_and_says_nothing(repository: Repository) -> None:
    offer_kernel(repository, "6.1.0-9-amd64", "6.1.9-1")
    first = debian.kernel(META)
    shutil.rmtree(repository.folder)
    said: list[str] = []

    assert debian.kernel(META, say=said.append) == first
    assert said == []


def test_a_newer_kernel_comes_with_a_refresh_only(repository: Repository) -> None:
    offer_kernel(repository, "6.1.0-9-amd64", "6.1.9-1")
    old = debian.kernel(META)
    offer_kernel(repository, "6.1.0-10-amd64", "6.1.10-1")

    assert debian.kernel(META) == old
    assert debian.kernel(META, refresh=True).release == "6.1.0-10-amd64"
    assert debian.kernel(META).release == "6.1.0-10-amd64"
    assert old.vmlinuz.read_bytes() == b"kernel 6.1.9-1"


def test_a_refresh_without_a_repository_uses_the_cached_copy_and_says_which(repository: Repository) -> None:
    offer_kernel(repository, "6.1.0-9-amd64", "6.1.9-1")
    first = debian.kernel(META)
    shutil.rmtree(repository.folder)
    said: list[str] = []

    assert debian.kernel(META, refresh=True, say=said.append) == first
    assert said[-1].startswith(f"using {first.package} of an earlier fetch: ")


def test_a_copy_that_was_deleted_is_fetched_again(repository: Repository) -> None:
    offer_kernel(repository, "6.1.0-9-amd64", "6.1.9-1")
    first = debian.kernel(META)
    shutil.rmtree(first.vmlinuz.parents[1])

    assert debian.kernel(META) == first
    assert first.vmlinuz.is_file()


def test_two_at_once_fetch_once(repository: Repository) -> None:
    offer_kernel(repository, "6.1.0-9-amd64", "6.1.9-1")
    said: list[str] = []

    with ThreadPoolExecutor(2) as pool:
        kernels = list(pool.map(lambda _: debian.kernel(META, say=said.append), range(2)))

    assert kernels[0] == kernels[1]
    assert len([line for line in said if line.startswith("downloading")]) == 1


def test_links_and_paths_that_lead_elsewhere_are_not_taken(repository: Repository, tmp_path: Path) -> None:
    repository.add(
        "linux-image-1-evil",
        "1",
        repository.symlink("./lib/modules", str(tmp_path)),
        repository.symlink("./boot/vmlinuz-1-link", "/etc/passwd"),
        repository.file("./boot/../../../vmlinuz-1-up", b"x"),
        repository.file("/boot/vmlinuz-1-absolute", b"x"),
        repository.file("./boot/vmlinuz-1-evil", b"kernel"),
        repository.file("./lib/modules/1-evil/kernel/../../../../../b.ko", b"x"),
        repository.file("./lib/modules/1-evil/kernel/c.ko", b"x"),
    )
    repository.publish()

    kernel = debian.kernel("linux-image-1-evil")

    assert contents(kernel.vmlinuz.parents[1]) == {
        "boot/vmlinuz-1-evil",
        "lib/modules/1-evil/kernel/c.ko",
    }
    assert not (tmp_path / "1-evil").exists()


@pytest.mark.parametrize("count", [0, 2])
def test_a_package_must_hold_one_kernel(repository: Repository, count: int) -> None:
    repository.add("kernels", "1", *[repository.file(f"./boot/vmlinuz-{n}", b"k") for n in range(count)])
    repository.publish()

    with pytest.raises(ImageError, match=f"kernels_1_amd64 holds {count} kernels"):
        debian.kernel("kernels")


def test_a_file_that_comes_twice_is_refused(repository: Repository) -> None:
    twice = [repository.file("./boot/vmlinuz-1", b"a"), repository.file("./boot/vmlinuz-1", b"b")]
    repository.add("kernels", "1", *twice)
    repository.publish()

    with pytest.raises(ImageError, match="damaged"):
        debian.kernel("kernels")


@pytest.mark.parametrize("data", [b"", b"no tar archive" * 100])
def test_a_damaged_package_is_refused_and_leaves_nothing(repository: Repository, data: bytes) -> None:
    repository.add("kernels", "1", data=data)
    repository.publish()

    with pytest.raises(ImageError, match="kernels_1_amd64"):
        debian.kernel("kernels")
    assert not list((cache.folder() / "debian").glob(".*"))


def test_a_truncated_package_is_refused(repository: Repository) -> None:
    whole = repository.add("kernels", "1", repository.file("./boot/vmlinuz-1", bytes(100_000))).read_bytes()
    del whole
    member, content = repository.file("./boot/vmlinuz-1", bytes(100_000))
    repository.add("kernels", "1", data=member.tobuf() + content[:50_000])
    repository.publish()

    with pytest.raises(ImageError, match="damaged"):
        debian.kernel("kernels")


@pytest.mark.parametrize("package", ["", "-o", "../x", "a b", "Linux", "a;b", "a/sid", "a=1", "x" * 200])
def test_what_is_no_package_name_never_reaches_apt(package: str, tmp_path: Path) -> None:
    with pytest.raises(AptError, match="no Debian package's name"):
        debian.kernel(package)
    assert not list(tmp_path.iterdir())


def test_a_name_in_the_cache_that_leads_elsewhere_is_not_followed(repository: Repository) -> None:
    offer_kernel(repository, "6.1.0-9-amd64", "6.1.9-1")
    first = debian.kernel(META)
    (cache.folder() / "debian" / "newest" / META).write_text("../../elsewhere")

    assert debian.kernel(META) == first
