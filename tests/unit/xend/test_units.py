"""The systemd units, and what xend tells systemd."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from xenion.api.folders import Folders, folders
from xenion.xend import autostart, live

UNITS = Path(__file__).resolve().parents[3] / "systemd"
SYSTEM, USER = UNITS / "xend.service", UNITS / "user" / "xend.service"
BOTH = pytest.mark.parametrize("unit", [SYSTEM, USER], ids=["system", "user"])


def settings(unit: Path) -> dict[str, str]:
    lines = (line for line in unit.read_text().splitlines() if line and line[0] not in "#[")
    pairs = [line.split("=", 1) for line in lines]
    assert len({name for name, _ in pairs}) == len(pairs), "a setting is given twice"
    return dict(pairs)


@BOTH
def test_systemd_understands_the_unit(unit: Path, tmp_path: Path) -> None:
    """With a program that is here in the place of xend."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    text = re.sub(r"^(Exec\w+)=\S+", rf"\1={sys.executable}", unit.read_text(), flags=re.MULTILINE)
    copy = tmp_path / "xend.service"
    copy.write_text(text)
    who = "--user" if unit == USER else "--system"
    done = subprocess.run(
        [analyze, who, "--man=no", "verify", str(copy)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    said = [line for line in (done.stdout + done.stderr).splitlines() if "xend.service" in line]
    assert not said
    assert done.returncode == 0, done.stderr


@BOTH
def test_domains_outlive_the_service(unit: Path) -> None:
    found = settings(unit)
    assert found["KillMode"] == "process"
    assert found["OOMPolicy"] == "continue"
    assert found.get("MemoryDenyWriteExecute", "no") == "no"


@BOTH
def test_the_service_may_take_as_long_to_stop_as_xend_takes(unit: Path) -> None:
    assert int(settings(unit)["TimeoutStopSec"]) > autostart.STOP_S + live.STOP_S + live.GONE_S


def test_the_systems_folders_are_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    found = settings(SYSTEM)
    assert folders() == Folders(
        Path("/run", found["RuntimeDirectory"]), Path("/var/lib", found["StateDirectory"])
    )
    assert found["RuntimeDirectoryPreserve"] == "yes"
    assert found["RuntimeDirectoryMode"] == found["StateDirectoryMode"] == "0700"


@contextmanager
def daemon(folder: Path, notify: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A xend in the foreground that tells systemd at `notify`."""
    environment = {
        **os.environ,
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_RUNTIME_DIR": str(folder / "run"),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "NOTIFY_SOCKET": notify,
    }
    program = [sys.executable, "-m", "xenion.xend", "run"]
    with subprocess.Popen(program, env=environment, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_systemd_is_told_when_xend_listens_and_when_it_stops(tmp_path: Path, abstract: bool) -> None:
    notify = f"@xenion-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.settimeout(30)
        told.bind(f"\0{notify[1:]}" if abstract else notify)
        with daemon(tmp_path, notify) as process:
            assert told.recv(100) == b"READY=1"
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(tmp_path / "run" / "xenion" / "xend.sock"))
            process.send_signal(signal.SIGTERM)
            assert told.recv(100) == b"STOPPING=1"
            assert process.wait(30) == 0
