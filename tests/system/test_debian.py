"""Debian as `xm image build` makes it: booted from its disk to a login, on the network, rebooted."""

import hashlib
import json
import socket
from typing import TYPE_CHECKING

import pytest

from tests.system.disk_guest import DebianGuest
from tests.system.images_on_host import MIB, stamp

if TYPE_CHECKING:
    from tests.system.disk_guest import Image
    from tests.system.xm import Xm


def test_what_systemd_has_made_of_it(debian: DebianGuest, debian_guest: "Image") -> None:
    debian.check_running()
    status, said = debian.shell.run("hostname; findmnt -no SOURCE,FSTYPE,OPTIONS /; uname -r")
    assert status == 0
    name, root, release = said.splitlines()
    assert name == debian_guest.hostname
    assert root.split()[:2] == ["/dev/xvda", "ext4"]
    assert "rw" in root.split()[2].split(",")
    assert release == debian_guest.release
    assert debian.complaints == ""


def test_what_the_front_ends_have_agreed_on(debian: DebianGuest) -> None:
    said = debian.run("journalctl -b -k -o cat --no-pager | grep 'xvda: flush'")
    for feature in ("flush diskcache", "indirect descriptors"):
        assert f"{feature}: enabled" in said
    features = debian.run(f"ethtool -k {debian.link(0)}")
    for feature in ("tx-checksumming", "scatter-gather", "tcp-segmentation-offload"):
        assert f"{feature}: on" in features


def test_its_network_is_up(debian: DebianGuest) -> None:
    link = debian.link(0)
    assert "10.0.2.15/24" in debian.run(f"ip -o -4 address show {link}")
    assert "via 10.0.2.2" in debian.run("ip route show default")
    assert debian.run(f"cat /sys/class/net/{link}/address") == debian.vif_facts(0)["mac"]
    mtu = (
        "65520" if "passt" in debian.vif_facts(0)["description"] else "1500"
    )  # libslirp, where passt cannot run
    assert debian.run(f"cat /sys/class/net/{link}/mtu") == mtu


def test_root_logs_in_over_the_forward(debian: DebianGuest) -> None:
    """With the key of the image; what sshd, who speaks first, has to say arrives before anything is sent."""
    with socket.create_connection(("127.0.0.1", debian.port), timeout=60) as forward:
        forward.settimeout(60)
        assert forward.recv(8) == b"SSH-2.0-"
    if debian.image.key is None:
        pytest.skip("there is no ssh to log in with: apt-get install openssh-client")
    assert debian.ssh.run("whoami; tty") == (1, "root\nnot a tty")
    with debian.ssh.running(f"head -c {8 * MIB} /dev/urandom | tee /tmp/random") as made:
        data, _ = made.communicate(timeout=120)
    assert len(data) == 8 * MIB
    assert debian.run("sha256sum /tmp/random; rm /tmp/random").split()[0] == hashlib.sha256(data).hexdigest()


def test_names_are_resolved(debian: DebianGuest) -> None:
    name = "deb.debian.org"
    try:
        known = {str(found[4][0]) for found in socket.getaddrinfo(name, 80, socket.AF_INET)}
    except socket.gaierror as error:
        pytest.skip(f"the host itself cannot resolve {name}: {error}")
    told = {line.split()[0] for line in debian.run(f"getent ahostsv4 {name}").splitlines()}
    assert told
    if len(known) == 1:  # others are told in turn
        assert told == known


def test_cloud_inits_data_is_on_a_disk(debian: DebianGuest) -> None:
    said = debian.run("mount -r $(blkid -L cidata) /mnt && cat /mnt/meta-data && umount /mnt")
    assert json.loads(said)["local-hostname"] == "cloudy"


def test_a_virtual_cpu_that_comes_is_used(xm: "Xm", debian_guest: "Image") -> None:
    """The image's udev brings it online; Linux takes it away by itself."""
    guest = DebianGuest(xm, debian_guest, "several")
    guest.boot_bare(maxvcpus=2, memory=256)
    for count in (1, 2, 1):
        assert xm.run("vcpu-set", "several", str(count)).status == 0
        guest.run(f"until [ $(nproc) = {count} ]; do sleep 0.1; done")
    guest.end()


def test_it_comes_back_from_a_reboot_with_what_it_wrote(debian: DebianGuest) -> None:
    before = stamp(debian.image.disk)
    debian.run("echo kept > /root/kept")
    assert debian.xm.run("reboot", debian.name).status == 0
    debian.hang_up_ssh()
    debian.log_in()
    debian.check_running()
    assert debian.run("cat /root/kept; rm /root/kept") == "kept"
    assert debian.facts()["boots"] == 2
    assert stamp(debian.image.disk) == before
