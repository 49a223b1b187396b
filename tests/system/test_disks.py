"""Disks as a stock Debian sees them: what it writes is what the host has, whatever the image is."""

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.system.images_on_host import (
    KINDS,
    MIB,
    PATTERN,
    digest,
    image_of,
    patterned,
    qcow2,
    raw,
    served,
    stamp,
    tool,
)

if TYPE_CHECKING:
    from tests.system.disk_guest import DebianGuest

JOBS = """\
[global]
filename={disk}
direct=1
ioengine=libaio
verify=crc32c
verify_fatal=1
verify_state_save=0
serialize_overlap=1
size={size}m
blockalign={small}
[sequential]
rw=write
bs=64k
iodepth=8
[random]
stonewall
rw=randrw
bs={small}
iodepth=32
io_size={some}m
[mixed]
stonewall
rw=randrw
bsrange={small}-128k
iodepth=16
io_size={size}m
fsync=16
[large]
stonewall
rw=randwrite
bs=2m
iodepth=4
[trim]
stonewall
rw=randtrimwrite
bs=64k
iodepth=4
io_size={size}m
"""
FILE_SYSTEMS = {
    "ext4": ("mkfs.ext4 -q {disk}", "e2fsck -fn {disk}", 64),
    "xfs": ("mkfs.xfs -q {disk}", "xfs_repair -n {disk}", 320),
    "btrfs": ("mkfs.btrfs -q {disk}", "btrfs check {disk}", 128),
}
"""How each is made and checked, and the smallest disk in MiB."""
FAULTS = {
    "read": "dd if=/dev/xvdb of=/dev/null bs=4k count=1 skip=337 iflag=direct",
    "write": "dd if=/dev/zero of=/dev/xvdb bs=4k count=1 seek=337 oflag=direct",
    "flush": "dd if=/dev/zero of=/dev/xvdb bs=4k count=1 conv=fsync",
    "discard": "blkdiscard -o 1380352 -l 65536 /dev/xvdb",
}
"""Each reaches sector 2696."""
FILL = "cp -r /usr/sbin /mnt/ 2>/dev/null; head -c {mib}M /dev/urandom > /mnt/rest 2>/dev/null"
SUMS = "cd /mnt && find . -type f -print0 | sort -z | xargs -0 sha256sum"


# --- what is written


@pytest.mark.parametrize("size_mib", [8, pytest.param(512, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_fio_reads_what_it_wrote(debian: "DebianGuest", tmp_path: Path, kind: str, size_mib: int) -> None:
    """In all modes and sizes of requests; then the host has the same bytes."""
    small = "4k" if kind == "sectors" else "1k"
    with image_of(kind, tmp_path, size_mib * MIB) as made:
        with debian.disk("xvdb", made.target, *made.words) as disk:
            jobs = JOBS.format(disk=disk, size=size_mib, some=size_mib // 8, small=small)
            debian.put("/tmp/jobs.fio", jobs)
            debian.run("fio --output-format=json --output=/tmp/told.json /tmp/jobs.fio", 3000)
            said = debian.run("cat /tmp/told.json")
            told = json.loads(said[said.index("{\n") :])  # behind its notes
            assert [job["error"] for job in told["jobs"]] == [0] * 5
            facts = debian.disk_facts("xvdb")
            assert facts["errors"] == 0
            assert facts["wr_bytes"] > 3 * size_mib * MIB
            seen = debian.run(f"sha256sum {disk}", 600).split()[0]
        assert digest(made.content()) == seen


@pytest.mark.parametrize("fill_mib", [16, pytest.param(400, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", FILE_SYSTEMS)
def test_a_file_system_is_filled_and_clean(
    debian: "DebianGuest", tmp_path: Path, kind: str, fill_mib: int
) -> None:
    """Four hundred MiB are more than any of them holds."""
    make, check, size_mib = FILE_SYSTEMS[kind]
    image = raw(tmp_path / "fs.img", size_mib * MIB)
    with debian.disk("xvdb", image) as disk:
        debian.run(f"{make.format(disk=disk)} && mount {disk} /mnt")
        debian.attempt(FILL.format(mib=fill_mib), 600)
        before = debian.run(SUMS)
        debian.run("umount /mnt")
        debian.run(check.format(disk=disk))
    with debian.disk("xvdc", image, "access=ro") as disk:
        debian.run(f"mount -r {disk} /mnt")
        assert debian.run(SUMS) == before
        debian.run("umount /mnt")
    assert before.count("\n") > 100
    if kind == "ext4":  # e2fsprogs is where Debian is
        subprocess.run([tool("e2fsck", "e2fsprogs"), "-fn", image], check=True, capture_output=True)


def test_a_disk_that_is_only_read(debian: "DebianGuest", tmp_path: Path) -> None:
    image = patterned(tmp_path / "r.img", MIB)
    before = stamp(image)
    with debian.disk("xvdb", image, "access=ro") as disk:
        assert debian.run(f"blockdev --getro {disk}") == "1"
        status, said = debian.attempt(f"dd if=/dev/zero of={disk} bs=4k count=1 conv=fsync")
        assert status != 0
        assert "Read-only" in said or "not permitted" in said
        debian.attempt(f"blockdev --setrw {disk} && dd if=/dev/zero of={disk} bs=4k count=1 oflag=direct")
        assert debian.run(f"sha256sum {disk}").split()[0] == digest(image)
    assert stamp(image) == before


def test_sectors_of_4096_bytes(debian: "DebianGuest", tmp_path: Path) -> None:
    with debian.disk("xvdb", raw(tmp_path / "s.img", MIB), "sector=4096") as disk:
        assert debian.run(f"blockdev --getss --getpbsz --getsize64 {disk}").split() == [
            "4096",
            "4096",
            str(MIB),
        ]
        assert debian.attempt(f"dd if={disk} of=/dev/null bs=512 count=1 iflag=direct")[0] != 0


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_what_is_discarded_goes_back_to_the_host(debian: "DebianGuest", tmp_path: Path, kind: str) -> None:
    size = 16 * MIB
    with image_of(kind, tmp_path, size) as made:
        path = Path(made.target)
        with debian.disk("xvdb", path, *made.words) as disk:
            debian.run(f"dd if=/dev/urandom of={disk} bs=1M count=16 oflag=direct conv=fsync")
            assert path.stat().st_blocks * 512 >= size
            debian.run(f"blkdiscard -o {4 * MIB} -l {8 * MIB} {disk}; sync {disk}")
            assert path.stat().st_blocks * 512 < size * 3 // 4
            debian.run(f"cmp -n {8 * MIB} -i {4 * MIB}:0 {disk} /dev/zero")
            assert debian.attempt(f"cmp -s -n {4 * MIB} {disk} /dev/zero")[0] == 1
        with made.content().open("rb") as file:
            file.seek(4 * MIB)
            assert not any(file.read(8 * MIB))


def test_what_may_not_be_discarded(debian: "DebianGuest", tmp_path: Path) -> None:
    image = patterned(tmp_path / "d.img", MIB)
    with debian.disk("xvdb", image, "no-discard") as disk:
        status, said = debian.attempt(f"blkdiscard {disk}")
        assert status != 0
        assert "not supported" in said
        assert debian.run(f"sha256sum {disk}").split()[0] == digest(image)


# --- other disks


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_a_disk_grows_while_it_is_used(debian: "DebianGuest", tmp_path: Path, kind: str) -> None:
    with image_of(kind, tmp_path, 8 * MIB) as made:
        with debian.disk("xvdb", made.target, *made.words) as disk:
            debian.run(f"mkfs.ext4 -q {disk} && mount {disk} /mnt && cp /bin/bash /mnt/")
            debian.configure_disk("xvdb", "--resize", "24M")
            debian.run(f"until [ $(blockdev --getsize64 {disk}) = {24 * MIB} ]; do sleep 0.1; done")
            debian.run(
                f"resize2fs {disk} && head -c {12 * MIB} /dev/zero > /mnt/zero && cmp /bin/bash /mnt/bash"
            )
            debian.run(f"umount /mnt; e2fsck -fn {disk}")
            refused = debian.xm.run("block-configure", debian.name, "xvdb", "--resize", "4M")
            assert refused.status != 0
            assert "can only grow" in refused.sentence()
        assert made.content().stat().st_size == 24 * MIB


def test_discs_come_and_go(debian: "DebianGuest", tmp_path: Path) -> None:
    first, second = patterned(tmp_path / "1.iso", MIB), raw(tmp_path / "2.iso", 2 * MIB)
    debian.attach_disk("xvdb", first, "cdrom")
    try:
        disk = "/dev/xvdb"
        assert debian.run(f"blockdev --getro {disk}") == "1"
        assert debian.run(f"sha256sum {disk}").split()[0] == digest(first)
        assert debian.xm.run("cd-eject", debian.name, "xvdb").status == 0
        debian.run(f"until [ $(blockdev --getsize64 {disk}) = 0 ]; do sleep 0.1; done")
        assert debian.run(f"head -c 1 {disk} | wc -c") == "0"
        assert debian.xm.run("cd-insert", debian.name, "xvdb", second).status == 0
        debian.run(f"until [ $(blockdev --getsize64 {disk}) = {2 * MIB} ]; do sleep 0.1; done")
        assert debian.run(f"sha256sum {disk}").split()[0] == digest(second)
        assert debian.disk_facts("xvdb")["target"] == str(second)
    finally:
        debian.detach_disk("xvdb")


def test_qcow2_over_a_base_that_stays_as_it_is(debian: "DebianGuest", tmp_path: Path) -> None:
    base = patterned(tmp_path / "base.img", MIB)
    before = stamp(base), digest(base)
    image = qcow2(tmp_path / "top.img", MIB, base)
    with debian.disk("xvdb", image, "format=qcow2") as disk:
        assert debian.run(f"sha256sum {disk}").split()[0] == before[1]
        debian.run(f"dd if=/dev/zero of={disk} bs=64k count=4 oflag=direct conv=fsync")
        assert debian.run(f"sha256sum {disk}").split()[0] != before[1]
    assert (stamp(base), digest(base)) == before


def test_an_overlay_keeps_what_is_written_and_the_base_does_not(
    debian: "DebianGuest", tmp_path: Path
) -> None:
    base = patterned(tmp_path / "base.img", MIB)
    before = stamp(base), digest(base)
    with debian.disk("xvdb", base, "overlay") as disk:
        debian.run(f"dd if=/bin/bash of={disk} bs=64k count=8 conv=fsync")
        written = debian.run(f"sha256sum {disk}").split()[0]
        assert written != before[1]
        with debian.disk("xvdc", base, "access=ro") as other:
            assert debian.run(f"sha256sum {other}").split()[0] == before[1]
    with debian.disk("xvdb", base, "overlay") as disk:
        assert debian.run(f"sha256sum {disk}").split()[0] == written
    assert (stamp(base), digest(base)) == before
    (debian.xm.domain_folder(debian.name) / "disks" / "xvdb.qcow2").unlink()


# --- what is refused, limited and broken


def test_an_image_has_one_user(debian: "DebianGuest", tmp_path: Path) -> None:
    """A disk of the same domain, one of another, and a program that is not of ours."""
    image = raw(tmp_path / "one.img", MIB)
    other = debian.xm.config("other", kernel=debian.image.kernel, disk=[f"{image},raw,xvda,w"])
    attach = ("block-attach", debian.name, f"vdev=xvdc, target={image}")
    with debian.disk("xvdb", image):
        for words in (attach, ("create", other)):
            refused = debian.xm.run(*words)
            assert refused.status != 0
            assert str(image) in refused.sentence()
        assert f"domain {debian.name}" in refused.sentence()
    with served(tmp_path, "--format=raw", image):
        refused = debian.xm.run(*attach)
        assert refused.status != 0
        assert "is in use by another program" in refused.sentence()
    with debian.disk("xvdb", image):  # free again
        pass


@pytest.mark.parametrize(
    ("words", "block", "counter"),
    [
        (("limit-bytes=256K", "limit-bytes=1M"), "64k", "wr_bytes"),
        (("limit-requests=40", "limit-requests=160"), "4k", "wr_req"),
    ],
)
def test_limits(
    debian: "DebianGuest", tmp_path: Path, words: tuple[str, str], block: str, counter: str
) -> None:
    """Of two disks that are written for the same while, one gets four times as much done as the other."""
    slow, fast = raw(tmp_path / "a.img", 64 * MIB), raw(tmp_path / "b.img", 64 * MIB)
    with debian.disk("xvdb", slow, words[0]), debian.disk("xvdc", fast, words[1]):
        write = f"timeout 5 dd if=/dev/zero of=/dev/xvd$d bs={block} oflag=direct 2>/dev/null &"
        debian.run(f"for d in b c; do {write} done; wait")
        done = [debian.disk_facts(name)[counter] for name in ("xvdb", "xvdc")]
        assert done[0] > 0
        assert 2.5 < done[1] / done[0] < 6, done
        for name in ("xvdb", "xvdc"):
            debian.configure_disk(name, "--limit-bytes", "0", "--limit-requests", "0")
        debian.run("dd if=/dev/zero of=/dev/xvdb bs=1M count=64 oflag=direct")


def test_a_file_that_shrinks_behind_our_back(debian: "DebianGuest", tmp_path: Path) -> None:
    image = patterned(tmp_path / "short.img", MIB)
    with debian.disk("xvdb", image) as disk:
        with image.open("r+b") as file:
            file.truncate(MIB // 2)
        status, said = debian.attempt(f"dd if={disk} of=/dev/null bs=64k iflag=direct")
        assert status != 0
        assert "Input/output error" in said
        assert debian.disk_facts("xvdb")["errors"] > 0
        assert debian.run(f"head -c {len(PATTERN)} {disk} | sha256sum") == debian.run(
            f"dd if={disk} bs={len(PATTERN)} count=1 status=none | sha256sum"
        )


@pytest.mark.parametrize("what", FAULTS)
def test_an_error_of_the_image_is_an_error_in_the_guest(
    debian: "DebianGuest", tmp_path: Path, what: str
) -> None:
    """QEMU's own fault injection, once; then all goes well again."""
    image = patterned(tmp_path / "bad.img", 4 * MIB)
    node = f"driver=raw,file.driver=blkdebug,file.image.driver=file,file.image.filename={image}"
    fault = ["event=none", f"iotype={what}", "once=on", "errno=5"] + ["sector=2696"] * (what != "flush")
    words = ",".join([node, *(f"file.inject-error.0.{word}" for word in fault)])
    with served(tmp_path, "--image-opts", words) as url, debian.disk("xvdb", url, "format=nbd"):
        status, said = debian.attempt(FAULTS[what])
        if (
            what == "flush"
        ):  # Linux's front end takes it for a disk that cannot flush, and says so in its log only
            assert "flush op failed" in debian.run("dmesg | tail -n 5")
        else:
            assert status != 0
            assert "Input/output error" in said
        assert debian.disk_facts("xvdb")["errors"] > 0
        debian.run(FAULTS[what])
