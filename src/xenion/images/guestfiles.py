"""The files that Xenion puts into every Debian root disk, and which units it masks there, with the reasons."""

import io
import tarfile
from collections.abc import Mapping

MASKED = {
    "apt-daily.timer": "looks for upgrades soon after each boot",
    "apt-daily-upgrade.timer": "the same",
    "dev-hugepages.mount": "a file system that few programs use; mount it when one does",
    "e2scrub_all.timer": "checks file systems on LVM, which is not here",
    "e2scrub_reap.service": "the same, at each boot",
    "getty@tty1.service": "a login on a screen, which is not here",
    "man-db.timer": "indexes manual pages, which are not here",
    "modprobe@configfs.service": "loads a module at each boot that Linux loads when it is used",
    "modprobe@dm_mod.service": "the same",
    "modprobe@efi_pstore.service": "there is no EFI here",
    "modprobe@fuse.service": "loads a module at each boot that Linux loads when it is used",
    "modprobe@loop.service": "the same",
    "sys-fs-fuse-connections.mount": "shows FUSE's connections to administrators",
    "sys-kernel-config.mount": "configures kernel subsystems that are not here",
}
"""Units that cost a slow processor much and this machine nothing; `systemctl unmask` brings each back."""

# Before the first package is unpacked.
EARLY = {
    "etc/dpkg/dpkg.cfg.d/xenion-no-documentation": """\
# A small disk: no documentation. Remove this file and reinstall a package to have its documentation.
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/info/*
path-exclude=/usr/share/man/*
path-exclude=/usr/share/locale/*
path-include=/usr/share/locale/locale.alias
""",
    # The modules listed beside it, instead of what this host's hardware or every hardware may need.
    "etc/initramfs-tools/conf.d/xenion": "MODULES=list\n",
    "usr/share/initramfs-tools/modules.d/xenion": """\
# What a Xen guest reaches its disks and networks with ...
xen-blkfront
xen-netfront
# ... and the same disk under other hypervisors.
virtio_pci
virtio_blk
""",
    "etc/initramfs-tools/hooks/xenion": """\
#!/bin/sh
# The drivers of the root disk are listed: what finds drivers for other hardware would only cost time at each boot.
# Remove this file and both scripts/*/xenion, then run update-initramfs -u, to have udev in the initrd again.
case "$1" in prereqs) exit 0 ;; esac
rm -rf "$DESTDIR/scripts/init-top/udev" "$DESTDIR/scripts/init-bottom/udev" "$DESTDIR/etc/udev"
for folder in lib usr/lib; do
    rm -rf "$DESTDIR/$folder/udev" "$DESTDIR/$folder/systemd"
done
for folder in bin usr/bin sbin usr/sbin; do
    rm -f "$DESTDIR/$folder/udevadm"
done
""",
    "etc/initramfs-tools/scripts/init-bottom/xenion": """\
#!/bin/sh
# What udev's script would do: the system goes on with the devices that the kernel has made.
case "$1" in prereqs) exit 0 ;; esac
mount -n -o move /dev "$rootmnt/dev" || mount -n --move /dev "$rootmnt/dev"
rm -rf /dev
ln -s "$rootmnt/dev" /dev
""",
    "etc/initramfs-tools/scripts/local-top/xenion": """\
#!/bin/sh
# A disk is there some moments after its driver.
case "$1" in prereqs) exit 0 ;; esac
case "$ROOT" in /dev/*) ;; *) exit 0 ;; esac
tries=0
while [ ! -e "$ROOT" ] && [ "$tries" -lt 50 ]; do
    sleep 0.1
    tries=$((tries + 1))
done
""",
}

# After the last package is set up.
LATE = {
    "etc/systemd/network/80-dhcp.network": """\
# DHCP and IPv6 advertisements on every Ethernet interface; files with smaller numbers win.
[Match]
Name=en* eth*

[Link]
RequiredForOnline=routable

[Network]
DHCP=yes

[DHCPv4]
UseMTU=yes
""",
    "etc/systemd/system/systemd-networkd-wait-online.service.d/xenion.conf": """\
# One network is enough: a second one may have no DHCP server.
[Service]
ExecStart=
ExecStart=/lib/systemd/systemd-networkd-wait-online --any
""",
    "etc/systemd/resolved.conf.d/xenion.conf": "[Resolve]\nLLMNR=no\nMulticastDNS=no\n",
    "etc/systemd/system.conf.d/xenion.conf": """\
# A processor in software is slow: what takes long has not failed.
[Manager]
DefaultTimeoutStartSec=300s
""",
    "etc/systemd/journald.conf.d/xenion.conf": "[Journal]\nSystemMaxUse=64M\n",
    "etc/systemd/system/xenion-ssh-host-key.service": """\
[Unit]
Description=Make this machine's SSH host key at its first boot
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key
Before=ssh.service ssh.socket

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key

[Install]
WantedBy=multi-user.target
""",
    "etc/ssh/sshd_config.d/xenion.conf": """\
# One key, quickly made; nobody logs in with a password over the network.
HostKey /etc/ssh/ssh_host_ed25519_key
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
""",
    "etc/default/locale": "LANG=C.UTF-8\n",
    "etc/udev/rules.d/79-xenion.rules": """\
# Linux loads drivers for what a processor can do when they are used: not a dozen of them at each boot.
SUBSYSTEM=="cpu", ENV{MODALIAS}=""
# A virtual CPU that xm vcpu-set has added is for use. Linux tells of it a moment before it would take it (EINVAL).
SUBSYSTEM=="cpu", ACTION=="add", ATTR{online}=="0", RUN+="/bin/sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do \\
echo 1 >/sys%p/online && exit; sleep 0.1; done'"
""",
}

_MTU = """\
# cloud-init's own file for the interface leaves the DHCP server's MTU out.
[DHCPv4]
UseMTU=yes
"""
CLOUD_INIT = {
    "etc/cloud/cloud.cfg.d/90_xenion.cfg": """\
# Data comes on a disk labelled CIDATA, or there is none; no address on the network is asked for it.
datasource_list: [NoCloud, None]
disable_root: false
ssh_genkeytypes: [ed25519]
""",
    **{
        f"etc/systemd/network/10-cloud-init-{name}.network.d/xenion.conf": _MTU
        for name in ("enX0", "enX1", "enX2", "enX3", "eth0")
    },
}

AUTOLOGIN = "etc/systemd/system/serial-getty@hvc0.service.d/autologin.conf"
AUTOLOGIN_TEXT = """\
# Who reaches the domain's console reaches the domain: root is logged in without a password there, and only there.
[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --noclear --keep-baud 115200,57600,38400,9600 - $TERM
"""


def early_tar() -> bytes:
    return _tar(EARLY, {})


def late_tar(*, cloud_init: bool) -> bytes:
    links = {f"etc/systemd/system/{unit}": "/dev/null" for unit in MASKED}
    links["etc/resolv.conf"] = "../run/systemd/resolve/stub-resolv.conf"
    return _tar({**LATE, **(CLOUD_INIT if cloud_init else {})}, links)


def _tar(files: Mapping[str, str], links: Mapping[str, str]) -> bytes:
    """Everything belongs to root; folders on the way are made by whoever unpacks it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, text in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            member.mode = 0o755 if text.startswith("#!") else 0o644
            archive.addfile(member, io.BytesIO(text.encode()))
        for name, target in sorted(links.items()):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return out.getvalue()
