"""What a guest needs to come up."""

import gzip
from types import SimpleNamespace
from typing import cast

import pytest

from xenion.builder import KernelImage, needs
from xenion.builder.errors import DomainBuildError


def test_a_gzip_ramdisk_tells_its_size() -> None:
    assert needs.unpacked_size(gzip.compress(bytes(123456))) == 123456


def test_other_ramdisks_count_as_they_are() -> None:
    assert needs.unpacked_size(b"070701" + bytes(94)) == 100
    assert needs.unpacked_size(None) == 0


@pytest.fixture
def image(monkeypatch: pytest.MonkeyPatch) -> KernelImage:
    monkeypatch.setattr(needs, "minimum_mib", lambda image, size: 66)
    return cast(KernelImage, SimpleNamespace(notes=SimpleNamespace(guest_os="linux")))


def test_linux_needs_more_than_is_placed(image: KernelImage) -> None:
    ramdisk = gzip.compress(bytes(2_755_584))
    assert needs.needed_mib(image, ramdisk) == 72
    needs.check_memory(image, ramdisk, 72 * 256)
    with pytest.raises(DomainBuildError, match="at least 72 MiB"):
        needs.check_memory(image, ramdisk, 72 * 256 - 1)


def test_other_kernels_need_what_is_placed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "minimum_mib", lambda image, size: 4)
    image = cast(KernelImage, SimpleNamespace(notes=SimpleNamespace(guest_os="minios")))
    assert needs.needed_mib(image, b"\x1f\x8b" + bytes(100)) == 4
