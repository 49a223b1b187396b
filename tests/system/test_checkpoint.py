"""Checkpoints of guests with disks: memory and disks of one moment, to which both go back."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.system.disk_guest import DebianGuest, Image
from tests.system.images_on_host import MIB, qcow2, qemu_img, raw
from tests.system.machines import alone
from tests.system.ticking import names
from tests.system.xm import wait_for

if TYPE_CHECKING:
    from tests.system.xm import Xm

WRITES = """
cat > /run/writes <<'END'
n=0
while [ ! -e /run/stop ]; do
  n=$((n+1))
  printf '%-511s\\n' $n > /run/line
  for disk in xvdb xvdc; do
    dd if=/run/line of=/dev/$disk bs=512 seek=$((n % 2000)) oflag=direct 2>/dev/null || echo $disk >> /run/failed
  done
  cp /run/line /var/tmp/count; sync /var/tmp/count
  mv /run/line /run/count
done
END
sh /run/writes >/dev/null 2>&1 &
"""
"""Each number goes to both disks, then to the root's file system, then to memory."""
LAST = """
for disk in xvdb xvdc; do dd if=/dev/$disk bs=512 count=2000 iflag=direct 2>/dev/null | sort -n | tail -n 1; done
cat /var/tmp/count /run/count; [ ! -e /run/failed ]
"""


@pytest.fixture
def bare(xm: "Xm", debian_guest: Image) -> Iterator[DebianGuest]:
    made = DebianGuest(xm, debian_guest, "mobile")
    yield made
    made.end()


def with_disks(guest: DebianGuest, folder: Path, machine: dict[str, Any] | None = None) -> list[Path]:
    """Its root on an overlay, a raw image and one of the format qcow2."""
    images = [raw(folder / "b.img", MIB), qcow2(folder / "c.img", MIB)]
    guest.boot_bare(
        disks=[
            f"format=raw, vdev=xvdb, access=rw, target={images[0]}",
            f"format=qcow2, vdev=xvdc, access=rw, target={images[1]}",
        ],
        **machine or {},
    )
    guest.run(WRITES)
    return images


def count(guest: DebianGuest) -> int:
    return int(guest.run("cat /run/count 2>/dev/null || echo 0"))


def goes_on(guest: DebianGuest) -> int:
    """Some numbers further."""
    before = count(guest)
    wait_for(lambda: count(guest) > before + 2)
    return count(guest)


def numbers(guest: DebianGuest) -> list[int]:
    """The newest on each disk, in the root's file system and in memory; its writing has ended."""
    guest.run("touch /run/stop; wait; sync")
    return [int(word) for word in guest.run(LAST).split()]


def done(xm: "Xm", *words: str | Path) -> str:
    finished = xm.run(*words)
    assert finished.status == 0, finished.stderr
    return finished.console


def listed(xm: "Xm") -> list[str]:
    return [one["name"] for one in xm.json("checkpoint-list", "mobile")]


def is_at(guest: DebianGuest, least: int, most: int) -> None:
    """It has gone on from a moment between these numbers: its disks are of the same one as its memory."""
    guest.moves_to(guest.xm)
    found = numbers(guest)
    assert len(set(found)) == 1
    assert least <= found[0] <= most + 3
    guest.destroy()


@pytest.mark.parametrize("machine", alone())
def test_it_goes_back_with_its_disks(xm: "Xm", bare: DebianGuest, machine: dict[str, Any]) -> None:
    """To each of two checkpoints, over and over; what was written in between is gone there, and nothing else."""
    with_disks(bare, xm.folder, machine)
    seen = [goes_on(bare)]
    assert "it stood still for" in done(xm, "save", "-c", bare.name, xm.folder / "one")
    seen.append(goes_on(bare))
    assert "is kept as two; it stood still for" in done(xm, "checkpoint", bare.name, "two")
    seen.append(goes_on(bare))
    assert len(set(numbers(bare))) == 1, "all has arrived"
    assert listed(xm) == ["one", "two"]
    bare.destroy()
    assert "was written to after the checkpoint" in xm.run("restore", xm.folder / "one").sentence()
    assert done(xm, "checkpoint-restore", bare.name) == f"{bare.name} goes on from two\n"
    is_at(bare, seen[1], seen[2])
    done(xm, "restore", "--back", xm.folder / "one")
    is_at(bare, seen[0], seen[1])
    done(xm, "checkpoint-restore", bare.name, "two")
    is_at(bare, seen[1], seen[2])


def test_its_images_are_whole_again_when_its_checkpoints_are_gone(xm: "Xm", bare: DebianGuest) -> None:
    images = with_disks(bare, xm.folder)
    goes_on(bare)
    for name in ("one", "two", "three"):
        done(xm, "checkpoint", bare.name, name)
        goes_on(bare)
    newest = numbers(bare)[0]
    assert "runs on what would be merged" in xm.run("checkpoint-merge", bare.name).sentence()
    bare.destroy()
    frozen = [image.read_bytes() for image in images]
    other = DebianGuest(xm, bare.image, "other")
    config = other.config(vifs=[], disks=[f"format=raw, vdev=xvdb, access=rw, target={images[0]}"])
    assert "is kept as it is for checkpoints of mobile" in xm.run("create", "-q", config).sentence()
    done(xm, "checkpoint-delete", bare.name, "two")
    assert done(xm, "checkpoint-merge", bare.name) == "3 files of mobile merged\n"
    assert [image.read_bytes() for image in images] == frozen
    done(xm, "checkpoint-restore", bare.name, "three")
    bare.moves_to(xm)
    assert len(set(numbers(bare))) == 1
    bare.destroy()
    done(xm, "checkpoint-delete", bare.name, "one", "three")
    assert listed(xm) == []
    done(xm, "checkpoint-merge", bare.name)
    assert list((xm.domain_folder(bare.name) / "layers").iterdir()) == []
    qemu_img("check", images[1])
    last = [line for line in images[0].read_bytes().split(b"\n") if line.strip().isdigit()]
    assert 0 < max(map(int, last)) <= newest
    assert done(xm, "checkpoint-merge", bare.name) == "mobile has nothing to merge\n"


def test_a_disk_lives_on_after_it(xm: "Xm", bare: DebianGuest) -> None:
    """It grows, its storage daemons die, its domain is saved, restored and renamed."""
    with_disks(bare, xm.folder)
    goes_on(bare)
    done(xm, "checkpoint", bare.name, "one")
    for vdev in ("xvdb", "xvdc"):
        bare.configure_disk(vdev, "--resize=2M")
        wait_for(lambda name=vdev: bare.run(f"blockdev --getsize64 /dev/{name}") == str(2 * MIB))  # type: ignore[misc]
    goes_on(bare)
    for helper in xm.helpers("qemu-storage-daemon"):
        os.kill(helper, signal.SIGKILL)
    goes_on(bare)
    newest = numbers(bare)
    assert len(set(newest)) == 1
    done(xm, "save", bare.name, xm.folder / "file")
    bare.hang_up()
    done(xm, "restore", xm.folder / "file")
    bare.moves_to(xm)
    assert numbers(bare) == newest
    done(xm, "rename", bare.name, "renamed")
    bare.name = "renamed"
    done(xm, "checkpoint", bare.name, "two")
    bare.destroy()
    for name in ("one", "two"):
        assert done(xm, "checkpoint-restore", bare.name, name) == f"renamed goes on from {name}\n"
        bare.moves_to(xm)
        assert (name == "two") == (numbers(bare) == newest)
        bare.destroy()


def test_what_cannot_be_kept(xm: "Xm", bare: DebianGuest) -> None:
    bare.boot_bare()
    done(xm, "checkpoint", bare.name, "one")
    assert 'has a checkpoint "one"' in xm.run("checkpoint", bare.name, "one").sentence()
    assert "letters, digits" in xm.run("checkpoint", bare.name, "../one").sentence()
    assert 'no checkpoint "two"' in xm.run("checkpoint-restore", bare.name, "two").sentence()
    assert 'no checkpoint "two"' in xm.run("checkpoint-delete", bare.name, "two").sentence()
    assert "running already" in xm.run("checkpoint-restore", bare.name, "one").sentence()


@pytest.mark.parametrize("tries", [4, pytest.param(60, marks=pytest.mark.slow)])
def test_an_xend_that_dies_leaves_all_in_order(xm: "Xm", bare: DebianGuest, tries: int) -> None:
    """Wherever the checkpoint is by then; the next one works."""
    with_disks(bare, xm.folder)
    for number in range(tries):
        with xm.start("checkpoint", bare.name, f"try{number}") as making:
            wait_for(lambda: xm.xend() is not None)
            deadline = time.monotonic() + 0.4 * number / tries
            wait_for(lambda until=deadline: time.monotonic() >= until)  # type: ignore[misc]
            pid = xm.xend()
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            making.communicate(timeout=60)
        goes_on(bare)
    done(xm, "checkpoint", bare.name, "last")
    last = count(bare)
    goes_on(bare)
    assert len(set(numbers(bare))) == 1
    bare.destroy()
    for name in reversed(listed(xm)):
        done(xm, "checkpoint-restore", bare.name, name)
        is_at(bare, 0, last)
    assert names(xm) == []
