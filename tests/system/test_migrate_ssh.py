"""xm migrate --ssh through a real sshd: that of a Debian guest, to whose loopback the other host's port is brought."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.system.disk_guest import DebianGuest, Image
from tests.system.hosts import Host
from tests.system.ticking import TICKS, names, wait_for_more
from tests.system.xm import wait_for

if TYPE_CHECKING:
    from tests.system.conftest import GuestMaker

PORT = 8002


class Road:
    """From `here` by ssh to `there`, through the guest's sshd, with the key of its image."""

    def __init__(self, folder: Path, image: Image) -> None:
        self.there = Host(folder / "there")
        self.config = folder / "ssh_config"
        command = f"ssh -F {self.config}"
        self.here = Host(folder / "here", f'ssh = "{command}"\n')
        self.guest = DebianGuest(self.there, image, "door")
        self._tunnel: subprocess.Popen[bytes] | None = None

    def open(self) -> None:
        self.guest.boot()
        self.config.write_text(
            f"Host door\n  HostName 127.0.0.1\n  Port {self.guest.port}\n  User root\n"
            f"  IdentityFile {self.guest.image.key}\n  IdentitiesOnly yes\n  StrictHostKeyChecking no\n"
            "  UserKnownHostsFile /dev/null\n"
        )
        forward = f"{PORT}:{self.there.address}"
        self._tunnel = subprocess.Popen(
            ["ssh", "-F", self.config, "-N", "-o", "ExitOnForwardFailure=yes", "-R", forward, "door"],
            stdin=subprocess.DEVNULL,
        )
        wait_for(lambda: self.guest.attempt(f"ss -ltn | grep -q 127.0.0.1:{PORT}")[0] == 0)

    def close(self) -> None:
        if self._tunnel is not None:
            self._tunnel.kill()
            self._tunnel.wait()
        self.guest.end()
        left = [process for host in (self.here, self.there) for process in host.end_all()]
        assert not left, f"the test left processes behind: {left}"


@pytest.fixture
def road(tmp_path: Path, debian_guest: Image) -> Iterator[Road]:
    if shutil.which("ssh") is None:
        pytest.skip("there is no ssh: apt-get install openssh-client")
    made = Road(tmp_path, debian_guest)
    yield made
    made.close()


def test_through_ssh(road: Road, guest: "GuestMaker") -> None:
    """A domain arrives; whatever keeps ssh from getting there is said, and it goes on."""
    here, there = road.here, road.there
    road.open()
    assert here.run("create", "-q", guest(TICKS, name="busy", memory=128)).status == 0
    wait_for_more(here, "busy")
    said = here.run("migrate", "--ssh", "--check", "-p", "9", "busy", "door").sentence()
    assert "Connection refused" in said
    assert "it goes on here" in said
    said = here.run("migrate", "--ssh", "busy", "nobody@door").sentence()
    assert "Permission denied" in said
    assert here.run("migrate", "--ssh", "--check", "busy", "door").console == "door:8002 would take busy\n"
    done = here.run("migrate", "--live", "--ssh", "busy", "door")
    assert done.status == 0, done.stderr
    assert "busy runs on door:8002 as domain 2" in done.console
    assert (names(here), names(there)) == ([], ["door", "busy"])
    wait_for_more(there, "busy")
    assert there.run("destroy", "busy").status == 0
