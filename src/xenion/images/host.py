"""What building a root disk needs of the host, each lack told in a sentence."""

import os
import pwd
from pathlib import Path

from xenion.images.failure import RootDiskError
from xenion.images.programs import find
from xenion.images.workshop import refusal

_PACKAGES = {
    "mmdebstrap": "mmdebstrap",
    "apt-get": "apt",
    "mke2fs": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "resize2fs": "e2fsprogs",
    "tune2fs": "e2fsprogs",
    "unshare": "util-linux",
    "setpriv": "util-linux",
}
_AS_USER = {"newuidmap": "uidmap", "newgidmap": "uidmap"}
_IDS = 65536
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class HostError(RootDiskError):
    """The host lacks something."""


def check() -> None:
    """HostError: what is missing, and how to get it."""
    as_user = os.geteuid() != 0
    wanted = {**_PACKAGES, **(_AS_USER if as_user else {})}
    missing = sorted({package for program, package in wanted.items() if find(program) is None})
    if not _KEYRING.exists():
        missing.append("debian-archive-keyring")
    if missing:
        names = " ".join(missing)
        raise HostError(
            f"Building a root disk needs {' and '.join(missing)}, not installed here: "
            f"install them with `{'sudo ' if as_user else ''}apt-get install {names}`."
        )
    if as_user:
        _check_ids()
        _check_namespaces()


def _check_ids() -> None:
    user = pwd.getpwuid(os.geteuid()).pw_name
    for file, option in (("/etc/subuid", "--add-subuids"), ("/etc/subgid", "--add-subgids")):
        if not _has_range(Path(file), (user, str(os.geteuid()))):
            raise HostError(
                f"User {user} has no {_IDS} ids of their own in {file}, which building without root needs: "
                f"`sudo usermod {option} 100000-165535 {user}` gives them (another range if it is taken)."
            )


def _has_range(file: Path, names: tuple[str, str]) -> bool:
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return False
    for line in lines:
        fields = line.strip().split(":")
        if len(fields) == 3 and fields[0] in names and fields[2].isdecimal() and int(fields[2]) >= _IDS:
            return True
    return False


def _check_namespaces() -> None:
    reason = refusal()
    if reason is not None:
        raise HostError(
            f"This host gives ordinary users no user namespaces ({reason}), which building without root needs: "
            f"build as root, or have the administrator allow them ({_switch()})."
        )


def _switch() -> str:
    """The setting that most likely forbids them."""
    for name, allowed in (
        ("kernel.apparmor_restrict_unprivileged_userns", "0"),
        ("kernel.unprivileged_userns_clone", "1"),
    ):
        try:
            value = Path("/proc/sys", name.replace(".", "/")).read_text().strip()
        except OSError:
            continue
        if value != allowed:
            return f"sysctl {name}={allowed}"
    return "sysctl user.max_user_namespaces, or the container's seccomp profile"
