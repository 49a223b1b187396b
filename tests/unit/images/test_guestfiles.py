"""What Xenion puts into a root disk."""

import io
import tarfile

import pytest

from xenion.images.guestfiles import CLOUD_INIT, EARLY, LATE, MASKED, early_tar, late_tar


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive.getmembers()}


def test_the_same_files_are_the_same_bytes() -> None:
    assert early_tar() == early_tar()
    assert late_tar(cloud_init=True) == late_tar(cloud_init=True)
    assert late_tar(cloud_init=True) != late_tar(cloud_init=False)


def test_all_files_are_in_and_belong_to_root() -> None:
    early, late = members(early_tar()), members(late_tar(cloud_init=False))
    assert set(early) == set(EARLY)
    assert set(LATE) <= set(late)
    assert not set(CLOUD_INIT) & set(late)
    assert set(CLOUD_INIT) <= set(members(late_tar(cloud_init=True)))
    for member in [*early.values(), *late.values()]:
        assert (member.uid, member.gid) == (0, 0)
        script = {**EARLY, **LATE}.get(member.name, "").startswith("#!")
        assert member.mode == (0o755 if script else 0o644)


def test_units_are_masked() -> None:
    late = members(late_tar(cloud_init=False))
    for unit in MASKED:
        assert late[f"etc/systemd/system/{unit}"].linkname == "/dev/null"


def test_front_ends_are_in_the_initrd() -> None:
    modules = EARLY["usr/share/initramfs-tools/modules.d/xenion"].split("\n")
    assert {"xen-blkfront", "xen-netfront"} <= set(modules)


@pytest.mark.parametrize("name", [name for name in LATE if name.startswith("etc/systemd/")])
def test_units_and_configurations_have_no_stray_line(name: str) -> None:
    for line in LATE[name].splitlines():
        assert not line or line.startswith(("#", "[")) or "=" in line


def test_nobody_logs_in_by_password_over_the_network() -> None:
    assert "PasswordAuthentication no\n" in LATE["etc/ssh/sshd_config.d/xenion.conf"]
    assert "PermitRootLogin prohibit-password\n" in LATE["etc/ssh/sshd_config.d/xenion.conf"]
