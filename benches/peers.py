"""Who is measured: for each peer what it needs, what installs that, and the command of one run."""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benches.assets import Assets

GUEST_MIB = 512
# Real Xen needs room for itself and its frame table beside the 512 MiB of its Domain 0.
XEN_MACHINE_MIB = 1024
QEMU = "qemu-system-x86_64"
INSTALL_QEMU = "sudo apt-get install qemu-system-x86"
INSTALL_COMPILER = "sudo apt-get install gcc libc6-dev"
INSTALL_XENION = ".venv/bin/pip install -e ."
KVM = Path("/dev/kvm")
GIVE_KVM = f"a host with {KVM} that is open to this user"


def xm() -> Path:
    """The xm of the virtual environment that runs the yardstick."""
    return Path(sys.executable).with_name("xm")


@dataclass(frozen=True)
class Run:
    """One run to make: the files it takes, where its own files may go, and what the guest is to do."""

    assets: Assets
    folder: Path
    name: str
    task: str = "bench"

    def extra(self, console: str) -> str:
        """The guest kernel's command line."""
        return f"console={console} quiet panic=-1 yardstick={self.task}"


@dataclass(frozen=True)
class Peer:
    """A thing to measure. `missing` answers the command that installs it, or None when it is there."""

    name: str
    what: str
    boots: bool
    missing: Callable[[], str | None]
    command: Callable[[Run], list[str]]
    # What ends a guest that outlives its command.
    destroy: Callable[[Run], list[str]] | None = None


def _host_missing() -> str | None:
    return None if shutil.which("gcc") else INSTALL_COMPILER


def _qemu_missing() -> str | None:
    return _host_missing() or (None if shutil.which(QEMU) else INSTALL_QEMU)


def _xenion_missing() -> str | None:
    return _host_missing() or (None if xm().exists() else INSTALL_XENION)


def _host(run: Run) -> list[str]:
    return [str(run.assets.bench), str(run.assets.busybox)]


def _qemu(mib: int) -> list[str]:
    return [QEMU, "-accel", "tcg", "-m", str(mib), "-nographic", "-no-reboot"]


def _tcg(run: Run) -> list[str]:
    guest = ["-kernel", str(run.assets.cloud_kernel), "-initrd", str(run.assets.initramfs)]
    return [*_qemu(GUEST_MIB), *guest, "-append", run.extra("ttyS0")]


def _xen_tcg(run: Run) -> list[str]:
    # Debian's cloud kernel cannot be a Domain 0, and its generic one panics on Xen under `-cpu max`.
    modules = f"{run.assets.generic_kernel} {run.extra('hvc0')},{run.assets.initramfs}"
    xen = ["-kernel", str(run.assets.xen), "-append", f"console=com1 dom0=pv dom0_mem={GUEST_MIB}M"]
    return [*_qemu(XEN_MACHINE_MIB), "-cpu", "qemu64", *xen, "-initrd", modules]


def hardware_missing() -> str | None:
    return _xenion_missing() or (None if os.access(KVM, os.R_OK | os.W_OK) else GIVE_KVM)


def _xenion(run: Run, processor: str = "software") -> list[str]:
    config = run.folder / f"{run.name}.cfg"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(xenion_config(run, processor))
    return [str(xm()), "create", "-c", str(config)]


def _hardware(run: Run) -> list[str]:
    return _xenion(run, "hardware")


def xenion_config(run: Run, processor: str = "software") -> str:
    """The xm configuration file of one measured domain."""
    settings: dict[str, str | int] = {
        "name": run.name,
        "kernel": str(run.assets.cloud_kernel),
        "ramdisk": str(run.assets.initramfs),
        "memory": GUEST_MIB,
        "vcpus": 1,
        "extra": run.extra("hvc0"),
        "processor": processor,
        "on_poweroff": "destroy",
        "on_reboot": "destroy",
        "on_crash": "destroy",
    }
    return "".join(f"{key} = {value!r}\n" for key, value in settings.items())


def _destroy_xenion(run: Run) -> list[str]:
    return [str(xm()), "destroy", run.name]


XENION = Peer("xenion", "PV domain, processor software", True, _xenion_missing, _xenion, _destroy_xenion)
PEERS = (
    XENION,
    Peer("kvm", "PV domain, processor hardware", True, hardware_missing, _hardware, _destroy_xenion),
    Peer("tcg", "Linux on qemu -accel tcg", True, _qemu_missing, _tcg),
    Peer("xen-tcg", "Linux as PV dom0 on Xen 4.17 on qemu -accel tcg", True, _qemu_missing, _xen_tcg),
    Peer("host", "the benchmark straight on the host", False, _host_missing, _host),
)
