from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.config.attempts import attempt
from tests.unit.config.strategies import disks
from xenion.config.disk import Disk, Format
from xenion.config.diskspec import read_disk, read_target, write_disk
from xenion.config.errors import ConfigError

CDROM: dict[str, Any] = {"cdrom": True, "writable": False}
URL = "nbd+unix:///export?socket=/run/a.sock"


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def disk(target: str, vdev: str = "xvda", **values: Any) -> Disk:
    return Disk(target=target, vdev=vdev, **values)


XM = [
    ("file:/p,xvda,w", disk("/p")),
    ("file:/p,xvda,r", disk("/p", writable=False)),
    ("file:/p,/dev/xvda1,w", disk("/p", "xvda1")),
    ("file:/p,ioemu:hda,w", disk("/p", "hda")),
    ("file:/p,0x301,w", disk("/p", "hda1")),
    ("phy:/dev/x,hda,r", disk("/dev/x", "hda", writable=False)),
    ("phy:vg/x,hda1,w", disk("/dev/vg/x", "hda1")),
    ("phy:/dev/x,sda1,w,0", disk("/dev/x", "sda1")),
    ("phy:/dev/x,sda1,w,Domain-0", disk("/dev/x", "sda1")),
    ("tap:aio:/p,xvda,w", disk("/p")),
    ("tap:sync:/p,xvda,w", disk("/p")),
    ("tap:tapdisk:aio:/p,xvda,w", disk("/p")),
    ("tap:qcow2:/p,xvda,w", disk("/p", format=Format.QCOW2)),
    ("tap2:aio:/p,xvda,w", disk("/p")),
    ("tap2:qcow2:/p,xvda,w", disk("/p", format=Format.QCOW2)),
    ("tap2:/p,xvda,w", disk("/p")),
    ("aio:/p,xvda,w", disk("/p")),
    ("file:/p.iso,xvdc:cdrom,r", disk("/p.iso", "xvdc", **CDROM)),
    ("file:/p,hdb:disk,w", disk("/p", "hdb")),
    (",hdc:cdrom,r", disk("", "hdc", **CDROM)),
    ("phy:,hdc:cdrom,r", disk("", "hdc", **CDROM)),
]
XL = [
    ("/dev/vg/guest-volume,,hda", disk("/dev/vg/guest-volume", "hda")),
    ("/dev/vg/guest-volume,raw,hda,rw", disk("/dev/vg/guest-volume", "hda")),
    ("format=raw, vdev=hda, access=rw, target=/dev/vg/guest-volume", disk("/dev/vg/guest-volume", "hda")),
    ("raw:/dev/vg/guest-volume,hda,w", disk("/dev/vg/guest-volume", "hda")),
    ("/root/image.iso,,hdc,cdrom", disk("/root/image.iso", "hdc", **CDROM)),
    ("/root/image.iso,,hdc,,cdrom", disk("/root/image.iso", "hdc", **CDROM)),
    ("/root/image.iso,raw,hdc,devtype=cdrom", disk("/root/image.iso", "hdc", **CDROM)),
    (
        "format=raw, vdev=hdc, access=ro, devtype=cdrom, target=/root/image.iso",
        disk("/root/image.iso", "hdc", **CDROM),
    ),
    ("raw:/root/image.iso,hdc:cdrom,ro", disk("/root/image.iso", "hdc", **CDROM)),
    ("qcow2:/p,xvda,w", disk("/p", format=Format.QCOW2)),
    ("vdev=xvdb,/p,qcow2", disk("/p", "xvdb", format=Format.QCOW2)),
    ("/p,vdev=xvdb,qcow2,ro", disk("/p", "xvdb", format=Format.QCOW2, writable=False)),
    (",,xvdb,target=/a,b: c ", disk("/a,b: c ", "xvdb")),
    ("vdev=xvda,target=/a=b,c", disk("/a=b,c")),
    ("vdev=xvda,target=/x", disk("/x")),
    ("  /p ,raw ,xvda , rw,", disk("/p")),
    ("\t/p,\n raw,xvda", disk("/p")),
    ("/a=b,raw,xvda", disk("/a=b")),
    (",empty,hdc,,cdrom", disk("", "hdc", **CDROM)),
    ("vdev=hdc,cdrom", disk("", "hdc", **CDROM)),
    ("vdev=hdc,access=r,devtype=cdrom,target=", disk("", "hdc", **CDROM)),
    ("/p,raw,d1p2", disk("/p", "xvdb2")),
    ("/p,,xvda,no-discard", disk("/p", discard=False)),
    ("/p,,xvda,discard", disk("/p")),
    ("/p,,xvda,trusted,specification=xen,backend=0,script=", disk("/p")),
    ("/p,raw,xvda,format=raw,devtype=disk", disk("/p")),
    ("vg/x,raw,xvda,backendtype=phy", disk("/dev/vg/x")),
    ("/p,raw,xvda,access=readwrite", disk("/p")),
    ("/p,raw,xvda,readonly", disk("/p", writable=False)),
]
OWN = [
    ("/p,qcow2,xvda,w,overlay", disk("/p", format=Format.QCOW2, overlay=True)),
    ("overlay,/p,,xvda", disk("/p", overlay=True)),
    ("/p,,xvda,sector=4096", disk("/p", sector_bytes=4096)),
    ("/p,,xvda,limit-bytes=10M,limit-requests=500", disk("/p", limit_bytes=10 << 20, limit_requests=500)),
    ("nbd://192.0.2.1:10809/e,,xvda,r", disk("nbd://192.0.2.1:10809/e", format=Format.NBD, writable=False)),
    ("nbd://[::1]/e,nbd,xvda", disk("nbd://[::1]/e", format=Format.NBD)),
    (f"{URL},,xvda", disk(URL, format=Format.NBD)),
    (f"{URL},,xvda,overlay", disk(URL, format=Format.NBD, overlay=True)),
    (f"vdev=xvda,target={URL}", disk(URL, format=Format.NBD)),
]


@pytest.mark.parametrize(
    ("spec", "found"), [*XM, *XL, *OWN], ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_form(spec: str, found: Disk) -> None:
    assert read_disk(spec)[0] == found


def test_relative_paths_start_here(tmp_path: Path) -> None:
    for spec in ("file:a/b.img,xvda,w", "a/b.img,raw,xvda", "vdev=xvda,target=a/b.img"):
        assert read_disk(spec)[0].target == f"{tmp_path}/a/b.img"


def test_on_a_command_line_each_word_is_a_part() -> None:
    assert read_disk("phy:/dev/sdb", "xvdb", "w")[0] == disk("/dev/sdb", "xvdb")
    assert read_disk("target=/a,b", "vdev=xvdb", "access=r")[0] == disk("/a,b", "xvdb", writable=False)
    assert read_disk("file:/p,xvda", "r", "0")[0] == disk("/p", writable=False)


REFUSED = [
    ("", "the virtual disk is missing"),
    ("/p", "the virtual disk is missing"),
    ("/p,raw,", "the virtual disk is missing"),
    ("vdev=xvda", "target is missing"),
    (",,xvda", "target is missing"),
    ("/p,raw,vda", "'vda' is no virtual disk"),
    ("/p,xvda,w", "format must be raw, qcow2 or nbd, not 'xvda', or file: before the target"),
    ("/p,raw,xvda,q", "access must be r or w, not 'q'"),
    ("file:/p,xvda,w,dom2", "backend must be Domain-0: no other domain serves disks"),
    ("/p,,xvda,backend=storage", "backend must be Domain-0"),
    ("/p,raw,xvda,w,0,z", "there is no place for 'z'"),
    ("/p,raw,xvda,script=block-x", "script is not supported"),
    ("iscsi:/p,xvda,w", "iscsi: asks for a script"),
    ("drbd:r0,xvda,w", "drbd: asks for a script"),
    ("nbd:192.0.2.1:9,xvda,w", "write nbd://HOST:PORT/EXPORT"),
    ("foo:/p,xvda,w", "foo: is not known; a path with a colon is written target=PATH, last"),
    ("tap:vhd:/p,xvda,w", "format vhd is not supported: convert the image with qemu-img convert -O qcow2"),
    ("/p,vhd,xvda", "format vhd is not supported"),
    ("/p,qcow,xvda", "format qcow is not supported"),
    ("/p,qed,xvda", "format qed is not supported"),
    ("tap:vmdk:/p,xvda,w", "format vmdk is not supported"),
    ("qcow2:/p,xvda,w,format=raw", "format is given twice"),
    ("/p,raw,xvda,vdev=xvdb", "vdev is given twice"),
    ("/p,raw,xvda,w,access=r", "access is given twice"),
    ("/p,raw,xvda,target=/q", "target is given twice"),
    ("/p,raw,xvda,devtype=floppy", "devtype must be cdrom or disk, not 'floppy'"),
    ("/p,raw,hdc:floppy,w", "devtype must be cdrom or disk, not 'floppy'"),
    ("/p,raw,xvda,discard,no-discard", "discard and no-discard exclude each other"),
    ("/p,raw,xvda,colour=red", "'colour' is not known: there is target, format, vdev, access"),
    ("/p,raw,xvda,specification=virtio", "specification must be xen, not 'virtio'"),
    ("/p,raw,xvda,colo,colo-host=x", "colo is not supported"),
    ("/p,raw,xvda,r,overlay", "an overlay is for a disk that the guest writes"),
    ("/p,raw,xvda,cdrom,overlay", "an overlay is for a disk that the guest writes"),
    ("/p,empty,hdc,cdrom", "format empty is for a drive without a target"),
    ("/p,raw,xvda,sector=2048", "sector_bytes must be 512 or 4096, not 2048"),
    ("/p,raw,xvda,limit-bytes=10MB", "limit-bytes must be a number of bytes"),
    ("/p,raw,xvda,limit-requests=1K", "limit-requests must be a whole number"),
    ("nbd://h/e,qcow2,xvda", "format is nbd for an NBD URL, not qcow2"),
    ("nbds://h/e,,xvda", "over TLS"),
    ("/\0,raw,xvda", "zero character"),
]


@pytest.mark.parametrize(("spec", "sentence"), REFUSED)
def test_what_is_no_disk(spec: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_disk(spec)
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("disk ")
    assert caught.value.key == "disk"


@pytest.mark.parametrize(
    ("spec", "notes"),
    [
        ("/p,raw,xvda", ()),
        ("/p,raw,xvda,trusted,discard,access=rw", ()),
        (
            "/p,raw,xvda,untrusted,direct-io-safe,backendtype=qdisk,grant_usage=1",
            ("direct-io-safe", "untrusted", "backendtype", "grant_usage"),
        ),
        ("file:/p,d0,w!", ("w!",)),
    ],
)
def test_what_has_no_effect_is_noted(spec: str, notes: tuple[str, ...]) -> None:
    found = read_disk(spec)[1]
    assert [note.split(" ")[2] for note in found] == list(notes)
    assert all(
        note.startswith(f"disk: xvda: {word} has no effect: ")
        for note, word in zip(found, notes, strict=True)
    )


def test_a_cd_rom_that_is_to_be_written_is_noted() -> None:
    assert read_disk("file:/p,hdc:cdrom,w")[1] == (
        "disk: hdc: a CD-ROM is read-only, whatever its access says",
    )
    assert read_disk("file:/p,hdc:cdrom,r")[1] == ()


@given(disks)
def test_what_is_written_reads_back_as_the_same(made: Disk) -> None:
    assert read_disk(write_disk(made)) == (made, ())


words = st.sampled_from(
    [
        *(
            "file:",
            "tap:",
            "qcow2:",
            "phy:",
            "nbd://",
            "/p",
            "xvda",
            ":cdrom",
            "target=",
            "format=",
            "vdev=",
            "devtype=",
        ),
        *(
            "raw",
            "w",
            "cdrom",
            "overlay",
            "sector=",
            "limit-bytes=",
            ",",
            ",",
            ",",
            "=",
            ":",
            " ",
            "4096",
            "backend=",
        ),
    ]
)


@given(st.text() | st.lists(words, max_size=12).map("".join))
@example("\ud800,raw,xvda")
@example(":,,,")
def test_random_text_raises_nothing_else(spec: str) -> None:
    if (found := attempt(lambda: read_disk(spec), "disk")) is not None:
        made, notes = found
        assert Disk.from_mapping(made.to_mapping()) == made
        assert read_disk(write_disk(made))[0] == made
        assert all(note.isprintable() for note in notes)


def test_targets_alone(tmp_path: Path) -> None:
    assert read_target("a.iso") == f"{tmp_path}/a.iso"
    assert read_target("file:/a.iso") == "/a.iso"
    assert read_target("phy:sr0") == "/dev/sr0"
    assert read_target("nbd://h/cd") == "nbd://h/cd"
    assert read_target("") == ""
    for text in ("qcow2:/a", "iscsi:x"):
        with pytest.raises(ConfigError):
            read_target(text)
