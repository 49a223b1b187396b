"""What a guest needs to come up."""

import gzip
import random
from types import SimpleNamespace
from typing import cast

import pytest

from xenion.builder import KernelImage, needs
from xenion.builder.errors import DomainBuildError


def test_a_gzip_ramdisk_tells_its_size() -> None:
    assert needs.unpacked_size(gzip.compress(bytes(123456))) == 123456


def test_members_follow_each_other() -> None:
    two = gzip.compress(bytes(100)) + bytes(7) + gzip.compress(bytes(50))
    assert needs.unpacked_size(two + b"070701") == 156


@pytest.mark.parametrize("keep", [20, 500, -9])
def test_a_cut_or_damaged_one_is_refused(keep: int) -> None:
    whole = gzip.compress(random.Random(1).randbytes(5000))
    with pytest.raises(DomainBuildError, match="cut"):
        needs.unpacked_size(whole[:keep])
    with pytest.raises(DomainBuildError, match="damaged"):
        needs.unpacked_size(whole[:-8] + bytes(8))


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
    assert needs.needed_mib(image, gzip.compress(bytes(1 << 20))) == 4
