"""mmdebstrap: its command line, its progress, and its complaints as a sentence.

It unpacks Debian in a folder of its own, as root, if only in a user namespace. Its last hook makes the file system out
of that folder, so that nothing is packed and unpacked again, and no file with a strange owner is left to anybody.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from xenion.images.failure import RootDiskError
from xenion.images.recipe import Recipe

Report = Callable[[str, float | None], None]
"""Takes what is being done, and which part of it is done (0 to 1) where that is known."""

SIZE_BYTES = 2 << 30
"""Of the file system that is made, unless more is in it."""
FEATURES = "^orphan_file,metadata_csum_seed"
"""An older e2fsck knows no orphan file; with the seed, a new UUID is no work."""

# Packages that were downloaded before are used where they are.
_OPEN_DEBS = """\
set -e
mkdir -p "$1/var/cache/apt/archives"
if ! mount --bind "$XENION_DEBS" "$1/var/cache/apt/archives" 2>/dev/null; then
    find "$XENION_DEBS" -name "*.deb" -exec cp -t "$1/var/cache/apt/archives" -- {} +
fi
"""
_CLOSE_DEBS = """\
set -e
if ! umount "$1/var/cache/apt/archives" 2>/dev/null; then
    find "$1/var/cache/apt/archives" -name "*.deb" -exec cp -n -t "$XENION_DEBS" -- {} +
fi
"""
_SET_UP = """\
set -e
units=$1/etc/systemd/system
chroot "$1" systemctl -q enable systemd-networkd.service systemd-resolved.service xenion-ssh-host-key.service
# A login on the console need not wait for the resolver.
if [ -L "$units/sysinit.target.wants/systemd-resolved.service" ]; then
    mv "$units/sysinit.target.wants/systemd-resolved.service" "$units/multi-user.target.wants/"
fi
rm -f "$1"/etc/ssh/ssh_host_*
chroot "$1" update-initramfs -c -k all
"""

# mmdebstrap's own tidying comes after this hook, too late for the file system.
_MAKE = """\
set -e
root=$1
for folder in sbin usr/sbin; do
    real=$root/$folder/start-stop-daemon.REAL
    if [ -e "$real" ]; then mv "$real" "$root/$folder/start-stop-daemon"; fi
done
# What was unpacked before dpkg knew what to leave out.
find "$root/usr/share/locale" "$root/usr/share/man" "$root/usr/share/info" "$root/usr/share/doc" \\
    ! -type d ! -name copyright ! -name locale.alias -delete 2>/dev/null || true
find "$root/usr/share/locale" "$root/usr/share/man" "$root/usr/share/doc" -mindepth 1 -type d -empty -delete
rm -f "$root/usr/sbin/policy-rc.d" "$root"/etc/apt/apt.conf.d/*mmdebstrap "$root"/etc/dpkg/dpkg.cfg.d/*mmdebstrap
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/*.log "$root"/var/log/apt/* \\
    "$root"/var/cache/ldconfig/aux-cache "$root"/var/lib/dbus/machine-id "$root"/var/lib/dpkg/*-old \\
    "$root/etc/hostname" "$root/vmlinuz.old" "$root/initrd.img.old" "$root/var/lib/systemd/random-seed"
mkdir -p "$root/var/cache/apt/archives/partial" "$root/var/lib/apt/lists/partial"
: >"$root/etc/machine-id"
touch -r "$root/usr" "$root/etc/.updated" "$root/var/.updated"
source=$root
if mount --bind "$root" "$root/mnt" 2>/dev/null; then
    source=$root/mnt
    mount -t tmpfs -o mode=755 none "$source/dev"
    mount -t tmpfs -o mode=755 none "$source/run"
    mount -t tmpfs -o mode=1777 none "$source/tmp"
else
    find "$root/dev" "$root/run" "$root/tmp" -xdev -mindepth 1 -delete
fi
echo "xenion: making the file system"
used=$(du -skx "$source" | cut -f1)
size=$((used * 4 / 3 + 262144))
if [ "$size" -lt {size} ]; then size={size}; fi
mke2fs -q -F -t ext4 -O {features} -m 1 -J size=32 -L xenion-root -E lazy_itable_init=0,lazy_journal_init=0 \\
    -d "$source" /proc/self/fd/{descriptor} "${{size}}K" </dev/null
if [ "$source" != "$root" ]; then umount -R "$source"; fi
"""

_SKIPPED = (
    "download/empty",
    "essential/unlink",
    "cleanup/apt",
    "cleanup/mmdebstrap",
    "cleanup/reproducible",
    "cleanup/run",
    "cleanup/tmp",
)


def command(recipe: Recipe, descriptor: int) -> list[str]:
    """To be run as root in a folder with early.tar and late.tar; the file system goes to the file at `descriptor`."""
    make = _MAKE.format(size=SIZE_BYTES >> 10, features=FEATURES, descriptor=descriptor)
    hooks = [
        ("setup", _OPEN_DEBS),
        ("setup", "tar-in early.tar /"),
        ("customize", _CLOSE_DEBS),
        ("customize", "tar-in late.tar /"),
        ("customize", _SET_UP),
        ("customize", make),
    ]
    options = [
        "--verbose",
        "--mode=root",
        "--variant=apt",
        "--format=null",
        "--hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr",
        '--aptopt=Acquire::Languages "none"',
        '--aptopt=APT::Install-Recommends "false"',
        '--aptopt=Acquire::Retries "2"',
        '--aptopt=Acquire::http::Timeout "60"',
        "--dpkgopt=force-unsafe-io",
        f"--include={','.join(recipe.included)}",
        *(f"--skip={step}" for step in _SKIPPED),
        *(f"--{kind}-hook={text}" for kind, text in hooks),
    ]
    return ["mmdebstrap", *options, recipe.suite, "/dev/null", *recipe.sources]


def variables(work: Path, debs: Path) -> dict[str, str]:
    """The environment of `command`, which unpacks below `work` and keeps packages in `debs`, absolute paths."""
    # The kernel's package makes no initrd: one is made at the end.
    return {"INITRD": "No", "TMPDIR": str(work), "XENION_DEBS": str(debs)}


class DebianError(RootDiskError):
    """mmdebstrap could not do it."""


_NEW = re.compile(r"\d+ upgraded, (\d+) newly installed")
_DOWNLOAD = re.compile(r"Get:(\d+) ")
_TASKS = (
    ("I: running --setup-hook directly", "fetching Debian's package lists"),  # it asks what the suite offers
    ("I: running apt-get update", "fetching Debian's package lists"),
    ("I: downloading packages", "downloading the essential packages"),
    ("I: extracting archives", "unpacking the essential packages"),
    ("I: installing essential packages", "setting up the essential packages"),
    ("I: installing remaining packages", "installing the other packages"),
    ("update-initramfs: Generating", "making the initrd"),
    ("xenion: ", "making the file system"),
)


@dataclass(slots=True)
class Progress:
    """Lines of mmdebstrap in, reports out; remembers what tells why it failed."""

    report: Report
    tail: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    _task: str = ""
    _total: int = 0
    _done: int = 0

    def line(self, text: str) -> None:
        if self.tail and self.tail[-1].startswith("Err:") and text.startswith("  "):
            self.errors[-1] += f"\n{text}"  # why
        self.tail = [*self.tail[-19:], text]
        if text.startswith(("E: ", "mke2fs: ", "dpkg: error", "Err:")) or "No space left on device" in text:
            self.errors.append(text)
        for start, task in _TASKS:
            if text.startswith(start):
                self._task, self._done = task, 0
                self.report(task, None)
                return
        if found := _NEW.match(text):
            self._total, self._done = int(found[1]), 0
        elif text.startswith(("Unpacking ", "Setting up ")):
            self._count(0.5)
        elif self._total and (found := _DOWNLOAD.match(text)):
            self.report("downloading packages", min(int(found[1]) / self._total, 1.0))

    def _count(self, part: float) -> None:
        self._done += 1
        if self._total:
            self.report(self._task, min(self._done * part / self._total, 1.0))


def reason(recipe: Recipe, progress: Progress) -> str:
    """Why mmdebstrap has failed, in a sentence without its dot."""
    told = "\n".join([*progress.errors, *progress.tail])
    if "No space left on device" in told:
        return "there is no room left where Debian is unpacked: make room in memory or below XDG_CACHE_HOME"
    if found := re.search(
        r"Unable to locate package (\S+)|Package '?([^' ]+)'? has no installation cand", told
    ):
        return f"Debian {recipe.suite} has no package {found[1] or found[2]}"
    if found := re.search(r"^E: The repository '(\S+) (\S+) Release' d", told, re.MULTILINE):
        address = re.search(rf"^Err:\d+ {re.escape(found[1])}.*\n\s*(.+)", told, re.MULTILINE)
        why = f" ({address[1].strip()})" if address else ""
        return f"the mirror {found[1]} cannot be reached or has no suite {found[2]}{why}"
    if found := re.search(r"^E: Failed to fetch (\S+)\s+(.*)", told, re.MULTILINE):
        return f"{found[1]} cannot be fetched: {found[2].strip().rstrip('.')}"
    if found := re.search(r"^(?:W|E): .*(NO_PUBKEY|is not signed|EXPKEYSIG).*", told, re.MULTILINE):
        return f"the mirror's signature is not one that this host trusts ({found[1]})"
    first = next(iter(progress.errors), progress.tail[-1] if progress.tail else "no word")
    return f"mmdebstrap says: {first.removeprefix('E: ').strip().rstrip('.')}"
