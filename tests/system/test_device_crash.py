"""kill -9 under I/O: of the store, the storage daemons, the network's program and xend, which come back; and of all at
once, which loses nothing that the guest has seen flushed."""

import os
import random
import re
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.system.disk_guest import DebianGuest
from tests.system.images_on_host import MIB, content, qcow2, raw

if TYPE_CHECKING:
    from tests.system.disk_guest import Image
    from tests.system.xm import Xm

FIO = "fio --name=load --direct=1 --ioengine=libaio --iodepth=8 --rw=randrw --bsrange=4k-64k --size=8m --fsync=8"
VERIFY = "--verify=crc32c --verify_fatal=1 --verify_state_save=0"
LOOP = "rm -f /tmp/stop; until [ -e /tmp/stop ]; do {} || exit 1; done"
RECORD = struct.Struct("<QQ")
SLOTS, SLOT_BYTES = 8192, 4096
WRITER = f"""
import os, struct, sys
disks = [os.open(name, os.O_RDWR) for name in sys.argv[1:]]
number = 0
while True:
    number += 1
    record = struct.pack("<QQ", number, number ^ 0xFFFFFFFFFFFFFFFF) * {SLOT_BYTES // RECORD.size}
    for disk in disks:
        os.pwrite(disk, record, number % {SLOTS} * {SLOT_BYTES})
        os.fsync(disk)
    print("kept", number, flush=True)
"""


def kill(*pids: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def intact(guest: "DebianGuest") -> Iterator[None]:
    """Others get a fresh one if this does not end well."""
    try:
        yield
    except BaseException:
        guest.end()
        raise


# --- one at a time


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_what_dies_under_load_comes_back(debian: "DebianGuest", tmp_path: Path, kills: int) -> None:
    """fio finds no mismatch and no error; after each kill all disks are read, and a device comes and goes."""
    if debian.image.key is None:
        pytest.skip("there is no ssh to load the guest by: apt-get install openssh-client")
    xm, extra = debian.xm, raw(tmp_path / "extra.img", MIB)
    victims: dict[str, Callable[[], list[int]]] = {
        "xenstored": lambda: [xm.xenstored()],
        "storage daemon": lambda: xm.helpers("qemu-storage-daemon"),
        "xend": lambda: [xm.xend() or 0],
    }
    order = [*victims, *(random.choice([*victims]) for _ in range(kills - len(victims)))]
    with intact(debian), ExitStack() as held:
        names = [
            held.enter_context(debian.disk("xvdb", raw(tmp_path / "raw.img", 8 * MIB))),
            held.enter_context(debian.disk("xvdc", qcow2(tmp_path / "q.img", 8 * MIB), "format=qcow2")),
        ]
        loops = [LOOP.format(f"{FIO} {VERIFY} --filename={name}") for name in names]
        loads = [held.enter_context(debian.ssh.running(loop)) for loop in loops]
        for name in order:
            kill(random.choice(victims[name]()))
            for disk in ("xvda", "xvdb", "xvdc"):
                status, said = debian.shell.run(f"dd if=/dev/{disk} of=/dev/null bs=4k count=1 iflag=direct")
                assert status == 0, f"after the end of {name}: {said}"
            with debian.disk("xvdd", extra) as disk:
                debian.run(f"dd if=/dev/zero of={disk} bs=64k count=16 oflag=direct")
        assert [load.poll() for load in loads] == [None, None]
        debian.run("touch /tmp/stop")
        told = [load.communicate(timeout=300)[0].decode()[-2000:] for load in loads]
        assert [load.returncode for load in loads] == [0, 0], told
        assert [debian.disk_facts(vdev)["errors"] for vdev in ("xvda", "xvdb", "xvdc")] == [0, 0, 0]


# --- all at once


class Disks:
    """A raw and a qcow2 image for one guest after another."""

    def __init__(self, folder: Path) -> None:
        size = SLOTS * SLOT_BYTES
        self._raw, self._qcow2 = raw(folder / "raw.img", size), qcow2(folder / "q.img", size)
        self.specs = (f"{self._raw},raw,xvdb,w", f"{self._qcow2},qcow2,xvdc,w")

    def contents(self) -> tuple[Path, Path]:
        return self._raw, content(self._qcow2)


def missing(path: Path, kept: int) -> list[int]:
    """Of the records up to `kept`, those that are not on the disk, nor one that came later in their place."""
    lost = []
    with path.open("rb") as file:
        for number in range(max(kept - SLOTS + 1, 1), kept + 1):
            file.seek(number % SLOTS * SLOT_BYTES)
            record = file.read(SLOT_BYTES)
            found, inverse = RECORD.unpack_from(record)
            whole = found ^ inverse == 0xFFFFFFFFFFFFFFFF and record == record[: RECORD.size] * (
                SLOT_BYTES // 16
            )
            later = found > kept or not whole  # the next one in this place was just being written
            if found != number and not (later and kept + 1 >= number + SLOTS):
                lost.append(number)
    return lost


@pytest.mark.parametrize("kills", [1, pytest.param(30, marks=pytest.mark.slow)])
def test_what_was_flushed_outlives_everything(
    xm: "Xm", debian_guest: "Image", tmp_path: Path, kills: int
) -> None:
    disks = Disks(tmp_path)
    guest = DebianGuest(xm, debian_guest, "doomed")
    for _ in range(kills):
        guest.boot_bare(disks=disks.specs, memory=256)
        guest.put("/tmp/writer.py", WRITER)
        guest.shell.say("python3 /tmp/writer.py /dev/xvdb /dev/xvdc")
        guest.shell.wait_for(f"kept {random.randrange(20, 200)}\r\n".encode())
        uuid = guest.facts()["uuid"]
        everything = [guest.process.pid, xm.xend() or 0, xm.xenstored(), *xm.helpers("qemu-storage-daemon")]
        assert len(everything) == 5
        random.shuffle(everything)
        kill(*everything)
        told = [int(number) for number in re.findall(rb"kept (\d+)\r\n", guest.shell.rest())]
        guest.hang_up()
        assert told
        assert xm.run("list").status == 0  # starts another xend
        with closing(xm.api()) as api:
            assert api.call("outcome", uuid=uuid, query={"wait": 60})["over"]
        assert [domain["name"] for domain in xm.json("list")] == ["Domain-0"]
        for path in disks.contents():
            assert missing(path, told[-1]) == []
    guest.boot_bare(disks=disks.specs, memory=256)  # and nothing is in its way
    guest.destroy()
