"""Runs the processor and guest suites on a standard KVM where the host has none: kvm_amd in QEMU's emulated SVM.

`python tools/test_kvm.py [--npt 0|1] [PYTEST ARGUMENTS]`. The outer guest is Debian's kernel with the host's own files,
read-only; it takes minutes, for all of it is emulated, on one processor, for with two QEMU hung. Both kinds of paging
are tried unless --npt names one.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from xenion.images import debian, initramfs

ROOT = Path(__file__).resolve().parents[1]
MODULES = (
    "virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "netfs", "fscache",
    "9pnet", "9pnet_virtio", "9p", "irqbypass", "rng-core", "ccp", "kvm", "kvm-amd",
)  # fmt: skip
"""In the order of their dependencies."""
SUITES = ("tests/processor", "tests/guest")
DONE = "the suites ended with status "
INIT = f"""#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /host
/bin/busybox mount -t proc none /proc
for option in $(/bin/busybox cat /proc/cmdline); do
    case $option in npt=*) npt=$option ;; esac
done
for module in {" ".join(MODULES)}; do
    [ ! -f /modules/$module.ko ] || {{
        if [ $module = kvm-amd ]; then options="nested=0 $npt"; else options=; fi
        /bin/busybox insmod /modules/$module.ko $options || echo "$module is not loaded"
    }}
done
/bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=262144 host /host
for place in proc:proc sysfs:sys devtmpfs:dev tmpfs:run; do
    /bin/busybox mount -t ${{place%:*}} none /host/${{place#*:}}
done
/bin/busybox mkdir -p /host/run/tmp /host/dev/shm
/bin/busybox chmod 666 /host/dev/kvm
/bin/busybox chroot /host /bin/sh -c '@COMMAND@'
echo "{DONE}$?"
/bin/busybox poweroff -f
"""


def module_files(root: Path) -> dict[str, Path]:
    """Guest path -> file, of the modules that this kernel has as files."""
    found = {path.stem: path for path in root.rglob("*.ko")}
    return {f"modules/{name}.ko": found[name] for name in MODULES if name in found}


def ramdisk(kernel: debian.Kernel, command: str) -> bytes:
    files: dict[str, bytes | Path] = {
        "init": INIT.replace("@COMMAND@", command).encode(),
        "bin/busybox": debian.busybox(),
        **module_files(kernel.modules),
    }
    return initramfs.build(files)


def run(npt: str, arguments: list[str]) -> int:
    kernel = debian.kernel("linux-image-amd64")
    words = " ".join(arguments or [*SUITES, "-m", '"not slow"'])
    command = (
        f"cd {ROOT} && export TMPDIR=/run/tmp HOME=/run PATH=/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 && "
        f".venv/bin/python -m pytest --no-header --color=no -p no:cacheprovider -k hardware {words}"
    )
    with tempfile.NamedTemporaryFile() as file:
        file.write(ramdisk(kernel, command))
        file.flush()
        process = subprocess.Popen(
            [
                "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max,+svm,+npt,-la57",
                "-smp", "1", "-m", "3072", "-nographic", "-no-reboot",
                "-kernel", str(kernel.vmlinuz), "-initrd", file.name,
                "-append", f"console=ttyS0 quiet panic=-1 npt={npt}",
                "-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        output = ""
        while process.stdout and (data := process.stdout.read1()):
            text = data.decode(errors="replace")
            print(text, end="", flush=True)
            output += text
    _, _, status = output.rpartition(DONE)
    return int(status.split()[0]) if status.split() and status.split()[0].isdigit() else 1


def main() -> int:
    arguments = sys.argv[1:]
    kinds = ["1", "0"]
    if arguments[:1] == ["--npt"]:
        kinds, arguments = [arguments[1]], arguments[2:]
    if shutil.which("qemu-system-x86_64") is None:
        sys.exit("qemu-system-x86_64 is not here: install qemu-system-x86")
    return max(run(npt, arguments) for npt in kinds)


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
