"""Debian guests with disks and networks for the tests: booted on an overlay, spoken to by ssh or on their console."""

import base64
import contextlib
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.system.xm import DomainProcess, Finished, Xm
from xenion.api import console

BOOT_S = 180.0
COMMAND_S = 120.0
LINE_MOST = 4000
"""A terminal takes no longer line in one piece."""
BARE = """mount -o remount,rw / && mount -t proc proc /proc && mount -t tmpfs run /run && ip link set lo up &&
/lib/systemd/systemd-udevd --daemon && udevadm trigger --action=add && modprobe xen-netfront && udevadm settle"""
PACKAGES = ("fio", "iperf3", "xfsprogs", "btrfs-progs", "ethtool", "python3-minimal")


@dataclass(frozen=True, slots=True)
class Image:
    """What `xm image build --json` tells of an image. `key` is the file that opens its root's door, if there is ssh."""

    folder: Path
    kernel: Path
    initrd: Path
    disk: Path
    cmdline: str
    hostname: str
    release: str
    key: Path | None


def free_port() -> int:
    """Of 127.0.0.1, for nobody else to take in the next moment."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def gone(device: str) -> str:
    """Waits in the guest until its own xenbus has forgotten a device, which may come again under its number then."""
    return f"until [ ! -e /sys/devices/{device} ]; do sleep 0.05; done"


class Shell:
    """A shell on a guest's console, which `log_in` reaches."""

    def __init__(self, path: Path, since: int | None = None) -> None:
        self._stream = console.attach(path, since).stream
        self._unseen = b""
        self._number = 0

    def wait_for(self, text: bytes, timeout_s: float = COMMAND_S) -> bytes:
        """What the guest says before it says that."""
        deadline = time.monotonic() + timeout_s
        while text not in self._unseen:
            self._stream.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                data = self._stream.recv(1 << 16)
            except TimeoutError:
                data = b""
            said = self._unseen[-3000:].decode(errors="replace")
            assert data, f"the guest has not said {text!r} on its console: {said}"
            self._unseen += data
        before, _, self._unseen = self._unseen.partition(text)
        return before

    def say(self, line: str) -> None:
        assert len(line) < LINE_MOST
        self._stream.settimeout(COMMAND_S)
        self._stream.sendall(line.encode() + b"\n")

    def log_in(self, timeout_s: float = BOOT_S) -> None:
        """Waits for root's prompt, which bash begins so; then lines are neither echoed nor mixed with the kernel's."""
        self.wait_for(b"\x1b[?2004h", timeout_s)
        self.say("exec bash --norc --noediting")
        self.wait_for(b"bash-")
        self.say("stty -echo; PS1= PS2=; dmesg -n 1; echo ready-$((40+2))")
        self.wait_for(b"ready-42\r\n")

    def start(self, command: str) -> int:
        """The number to give to `finish`."""
        self._number += 1
        self.say(f'{{ {command}\n}} </dev/null 2>&1; s=$?; echo; echo "end-{self._number}-$s-"')
        return self._number

    def finish(self, number: int, timeout_s: float = COMMAND_S) -> tuple[int, str]:
        """Its status and what it has said."""
        said = self.wait_for(f"end-{number}-".encode(), timeout_s)
        status = self.wait_for(b"-")
        return int(status), said.decode(errors="replace").replace("\r\n", "\n").strip("\n")

    def run(self, command: str, timeout_s: float = COMMAND_S) -> tuple[int, str]:
        return self.finish(self.start(command), timeout_s)

    def rest(self, timeout_s: float = COMMAND_S) -> bytes:
        """All that is left to be heard of a domain that is over."""
        self._stream.settimeout(timeout_s)
        with contextlib.suppress(ConnectionResetError):
            while data := self._stream.recv(1 << 16):
                self._unseen += data
        return self._unseen

    def close(self) -> None:
        self._stream.close()


class Ssh:
    """One connection to a guest's sshd, which all commands share."""

    def __init__(self, port: int, key: Path) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="xn"))  # the path of a socket is short
        options = {
            "ConnectTimeout": 60,
            "ControlPath": self._folder / "s",
            "IdentitiesOnly": "yes",
            "LogLevel": "ERROR",
            "ServerAliveInterval": 20,
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        self._words = ["ssh", "-F", "none", "-p", str(port), "-i", str(key), *words]
        self._master = subprocess.Popen(
            [*self._words, "-M", "root@127.0.0.1", "echo ready; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._master.stdout is not None
        if self._master.stdout.readline() != b"ready\n":
            _, said = self._master.communicate()
            self.close()
            raise AssertionError(f"ssh does not get in: {said.decode(errors='replace')}")

    @contextlib.contextmanager
    def running(self, command: str) -> "Iterator[subprocess.Popen[bytes]]":
        """With both outputs in one pipe; what has not ended afterwards is not waited for."""
        process = subprocess.Popen(
            [*self._words, "-o", "ControlMaster=no", "root@127.0.0.1", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def run(self, command: str, timeout_s: float = COMMAND_S) -> tuple[int, str]:
        """Its status and what it has said."""
        with self.running(command) as process:
            try:
                said, _ = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                raise AssertionError(f"{command} has not ended after {timeout_s} s") from None
            return process.returncode, said.decode(errors="replace").strip("\n")

    def close(self) -> None:
        self._master.kill()
        self._master.communicate()
        shutil.rmtree(self._folder)


class DebianGuest:
    """A guest that `boot` starts. `run` goes by ssh if the guest has a door for it, else by the console."""

    def __init__(self, xm: Xm, image: Image, name: str) -> None:
        self.xm = xm
        self.image = image
        self.name = name
        self.port = 0
        self._devices: dict[str, Any] = {}
        self._shell: Shell | None = None
        self._ssh: Ssh | None = None
        self.complaints = ""
        """What the kernel of the first boot had to say of errors."""

    # --- life

    def config(
        self, *, vifs: Sequence[str] | None = None, disks: Sequence[str] = (), extra: str = "", **keys: object
    ) -> Path:
        """Its root on an overlay; on the user network, with a way in, unless `vifs` are given."""
        self.hang_up()
        self.port = 0
        root = f"format=raw, overlay, vdev=xvda, access=rw, target={self.image.disk}"
        if vifs is None:
            self.port = free_port()
            vifs = [f"forward=tcp:{self.port}:22"]
        chosen = {
            "name": self.name,
            "kernel": self.image.kernel,
            "ramdisk": self.image.initrd,
            "cmdline": f"{self.image.cmdline} {extra}".strip(),
            "memory": 512,
            "disk": [root, *disks],
            "vif": list(vifs),
            "on_reboot": "restart",
        }
        return self.xm.config(self.name, **(chosen | keys))

    def boot(self, **keys: Any) -> None:
        """Until systemd has started all that it starts; `keys` as for `config`."""
        self.create(self.config(**keys))
        self.log_in()
        self.check_running()
        said = self.shell.run("journalctl -b -k -p err -o cat --no-pager")[1]
        self.complaints = said.replace("-- No entries --", "").strip()

    def boot_bare(self, *, vifs: Sequence[str] = (), extra: str = "", **keys: Any) -> None:
        """A shell instead of systemd, which is there sooner: to be spoken to on the console only."""
        self.create(self.config(vifs=vifs, extra=f"init=/bin/bash {extra}", **keys))
        self.prepare_bare()

    def prepare_bare(self) -> None:
        """A bare guest of this boot or the next."""
        self.log_in()
        self.run(BARE)

    def create(self, config: Path) -> None:
        done = self.xm.run("create", "-q", config)
        assert done.status == 0, done.stderr
        self._devices = self.facts()["config"]

    def log_in(self) -> None:
        """On the console, of this boot or the next."""
        if self._shell is None:
            self._shell = Shell(Path(self.facts()["console"]))
        self._shell.log_in()

    def check_running(self) -> None:
        state = self.shell.run("systemctl is-system-running --wait", BOOT_S)[1]
        failed = self.shell.run("systemctl --failed --no-legend")[1]
        assert state == "running", f"systemd says {state}: {failed}"

    def moves_to(self, xm: Xm) -> None:
        """It is a domain of another xend's now; its shell is at its prompt."""
        self.hang_up()
        self.xm = xm
        self._shell = Shell(Path(self.facts()["console"]))
        self._devices = self.facts()["config"]

    @property
    def shell(self) -> Shell:
        assert self._shell is not None
        return self._shell

    @property
    def ssh(self) -> Ssh:
        """Connected when it is first needed."""
        if self._ssh is None:
            assert self.image.key is not None
            self._ssh = Ssh(self.port, self.image.key)
        return self._ssh

    def facts(self) -> dict[str, Any]:
        (found,) = (domain for domain in self.xm.json("list") if domain["name"] == self.name)
        return dict(found)

    @property
    def process(self) -> DomainProcess:
        return DomainProcess(self.facts()["pid"])

    def untouched(self) -> bool:
        """Whether it runs and has the devices that it was created with."""
        found = [domain for domain in self.xm.json("list") if domain["name"] == self.name]
        return bool(found) and all(
            found[0]["config"][kind] == self._devices[kind] for kind in ("disks", "vifs")
        )

    def hang_up(self) -> None:
        """Connections are gone, the guest goes on."""
        self.hang_up_ssh()
        if self._shell is not None:
            self._shell.close()
            self._shell = None

    def hang_up_ssh(self) -> None:
        if self._ssh is not None:
            self._ssh.close()
            self._ssh = None

    def end(self) -> None:
        """If it is there."""
        self.hang_up()
        if any(domain["name"] == self.name for domain in self.xm.json("list")):
            self.destroy()

    def destroy(self) -> None:
        self.hang_up()
        done = self.xm.run("destroy", self.name)
        assert done.status == 0, done.stderr

    # --- commands in it

    def attempt(self, command: str, timeout_s: float = COMMAND_S) -> tuple[int, str]:
        """Its status and what it has said."""
        reached = self.ssh if self.port and self.image.key is not None else self.shell
        return reached.run(command, timeout_s)

    def run(self, command: str, timeout_s: float = COMMAND_S) -> str:
        """What a command says that must succeed."""
        status, said = self.attempt(command, timeout_s)
        assert status == 0, f"{command}: status {status}: {said[-3000:]}"
        return said

    def put(self, path: str, text: str) -> None:
        """A file in the guest."""
        data = base64.b64encode(text.encode()).decode()
        self.run(f": > {path}.b64")
        for at in range(0, len(data), LINE_MOST // 2):
            self.run(f"printf %s {data[at : at + LINE_MOST // 2]} >> {path}.b64")
        self.run(f"base64 -d {path}.b64 > {path}; rm {path}.b64")

    # --- devices

    def _xm(self, *words: str | Path) -> Finished:
        done = self.xm.run(*words)
        assert done.status == 0, done.stderr
        return done

    def attach_disk(self, vdev: str, target: str | Path, *words: str) -> None:
        """Until the guest has it; `words` as in a configuration file."""
        spec = ", ".join([f"vdev={vdev}", *words, f"target={target}"])
        self._xm("block-attach", self.name, spec)
        self.run(f"udevadm wait --timeout=60 /dev/{vdev}")

    def detach_disk(self, vdev: str) -> None:
        devid = self.disk_facts(vdev)["devid"]
        self._xm("block-detach", self.name, vdev)
        self.run(gone(f"vbd-{devid}"))

    @contextlib.contextmanager
    def disk(self, vdev: str, target: str | Path, *words: str) -> Iterator[str]:
        """Attached meanwhile; its path in the guest."""
        self.attach_disk(vdev, target, *words)
        try:
            yield f"/dev/{vdev}"
        finally:
            self.run(f"umount -q /dev/{vdev} || :")
            self.detach_disk(vdev)

    def configure_disk(self, vdev: str, *words: str) -> None:
        self._xm("block-configure", self.name, vdev, *words)

    def disk_facts(self, vdev: str) -> dict[str, Any]:
        """What `xm block-list` tells of a disk."""
        (found,) = (disk for disk in self.xm.json("block-list", self.name) if disk["vdev"] == vdev)
        return dict(found)

    def attach_vif(self, *words: str) -> int:
        """Its number; the guest has it when this returns, as the device of `link`."""
        done = self._xm("network-attach", self.name, ", ".join(words) or "user", "--json")
        number = int(re.findall(rb'"devid": (\d+)', done.stdout)[0])
        self.run(f"udevadm wait --timeout=60 /sys/class/net/{self.link(number)}")
        return number

    def detach_vif(self, number: int) -> None:
        self._xm("network-detach", self.name, str(number))
        self.run(gone(f"vif-{number}"))

    def link(self, number: int) -> str:
        """The guest's name of an interface."""
        return f"enX{number}"

    def vif_facts(self, number: int) -> dict[str, Any]:
        """What `xm network-list` tells of an interface."""
        (found,) = (vif for vif in self.xm.json("network-list", self.name) if vif["devid"] == number)
        return dict(found)
