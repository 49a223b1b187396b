"""Disks and networks under load together for long: no error, no mismatch, nothing that grows."""

import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.system.disk_guest import free_port
from tests.system.host_net import host_address
from tests.system.images_on_host import MIB, qcow2, raw, tool
from tests.system.test_device_cycles import Belongings

if TYPE_CHECKING:
    from tests.system.disk_guest import DebianGuest

ROUND = """
set -e
load() {{
    fio --name=$1 --filename=/dev/$1 --direct=1 --ioengine=libaio --iodepth=16 --rw=randrw --bsrange=4k-128k \\
        --size={size}m --fsync=32 --verify=crc32c --verify_fatal=1 --verify_state_save=0 > /tmp/$1.log
}}
end=$(($(cut -d. -f1 /proc/uptime) + {seconds}))
while [ $(cut -d. -f1 /proc/uptime) -lt $end ]; do
    load xvdb & first=$!
    load xvdc & second=$!
    iperf3 -c {peer} -p {port} -n 32M > /tmp/up.log
    iperf3 -c {peer} -p {port} -n 32M -R > /tmp/down.log
    wait $first
    wait $second
done
"""


@pytest.mark.parametrize("seconds", [20, pytest.param(1800, marks=pytest.mark.slow)])
def test_disks_and_networks_together(debian: "DebianGuest", tmp_path: Path, seconds: int) -> None:
    """fio on a raw and a qcow2 disk, iperf3 to the host and back, all in one guest."""
    program, port, size_mib = tool("iperf3", "iperf3"), free_port(), 16 if seconds < 60 else 64
    with ExitStack() as held:
        server = held.enter_context(
            subprocess.Popen([program, "-s", "-p", str(port)], stdout=subprocess.DEVNULL)
        )
        held.callback(server.terminate)
        held.enter_context(debian.disk("xvdb", raw(tmp_path / "raw.img", size_mib * MIB)))
        held.enter_context(debian.disk("xvdc", qcow2(tmp_path / "q.img", size_mib * MIB), "format=qcow2"))
        for duration in (seconds // 10, seconds):  # caches are filled in the first one
            before = Belongings.of(debian)
            script = ROUND.format(seconds=duration, size=size_mib, peer=host_address(), port=port)
            debian.put("/tmp/round.sh", script)
            debian.run("bash /tmp/round.sh", duration + 600)
        Belongings.of(debian).compare(before, loaded_disks=3)
        assert [debian.disk_facts(vdev)["errors"] for vdev in ("xvda", "xvdb", "xvdc")] == [0, 0, 0]
