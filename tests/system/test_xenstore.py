"""Stock clients of xenstored: Debian's xenstore-utils, and Xen's own test of a xenstored."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from xenion.dom0.xenstore import folder as places
from xenion.dom0.xenstore.control import StoreControl, start

UUID = "6c2e0e6e-0b60-4f0d-9f0e-7b1e4d2c3a10"
LIMIT_S = 120


class Daemon:
    """A running xenstored and the stock tools at it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.child = start(folder, 2)
        self.environment = {**os.environ, "XENSTORED_PATH": str(folder / places.SOCKET)}

    def tool(self, *command: str | Path, status: int = 0) -> str:
        """What a tool says; it must end with that status."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=LIMIT_S
        )
        assert done.returncode == status, done.stderr
        return done.stdout

    def close(self) -> None:
        with StoreControl.connect(self.folder / places.CONTROL) as control:
            control.stop()
        assert self.child.wait(LIMIT_S) == 0


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path / "run")
    yield made
    made.close()


@pytest.fixture(scope="module")
def utilities() -> None:
    if shutil.which("xenstore-ls") is None:
        pytest.skip("xenstore-ls is not here: apt-get install xenstore-utils")


def xen_program(name: str) -> Path:
    found = sorted(Path("/usr/lib").glob(f"xen-*/bin/{name}"))
    if not found:
        pytest.skip(f"{name} is not here: apt-get install xen-utils-4.17")
    return found[-1]


@pytest.mark.usefixtures("utilities")
def test_the_utilities(daemon: Daemon) -> None:
    tool = daemon.tool
    tool("xenstore-write", "/a/b", "one", "/a/c", "two words", "/a/d", "")
    assert tool("xenstore-read", "/a/b", "/a/c") == "one\ntwo words\n"
    assert sorted(tool("xenstore-list", "/a").split()) == ["b", "c", "d"]
    assert tool("xenstore-list", "-p", "/a").split() == ["/a/b", "/a/c", "/a/d"]
    tool("xenstore-exists", "/a/b")
    tool("xenstore-exists", "/a/nothing", status=1)
    tool("xenstore-chmod", "/a/b", "n0", "r5", "b6")
    tool("xenstore-chmod", "-r", "/a/c", "r0", "w7")
    listed = tool("xenstore-ls", "-fp", "/a")
    assert [line.split("   ") for line in listed.splitlines()] == [
        ['/a/b = "one"', "(n0,r5,b6)"],
        ['/a/c = "two words"', "(r0,w7)"],
        ['/a/d = ""', "(n0)"],
    ]
    assert "/tool/xenstored" in tool("xenstore-ls", "-f")
    tool("xenstore-rm", "/a/b")
    tool("xenstore-read", "/a/b", status=1)
    tool("xenstore-rm", "-t", "/a/c")
    assert tool("xenstore-list", "/a").split() == ["d"]


@pytest.mark.usefixtures("utilities")
def test_xenstore_ls_shows_a_directory_that_no_message_holds(daemon: Daemon) -> None:
    for start_at in range(0, 1500, 300):
        pairs = [word for n in range(start_at, start_at + 300) for word in (f"/many/{n:0>20}", str(n))]
        daemon.tool("xenstore-write", *pairs)
    assert len(daemon.tool("xenstore-ls", "-f", "/many").splitlines()) == 1500


@pytest.mark.usefixtures("utilities")
def test_xenstore_watch(daemon: Daemon) -> None:
    watch = subprocess.Popen(
        ["xenstore-watch", "-n", "3", "/a"], env=daemon.environment, stdout=subprocess.PIPE, text=True
    )
    assert watch.stdout is not None
    assert watch.stdout.readline() == "/a\n"
    daemon.tool("xenstore-write", "/a/b", "x")
    assert watch.stdout.readline() == "/a/b\n"
    daemon.tool("xenstore-rm", "/a")
    assert watch.stdout.readline() == "/a\n"
    assert watch.wait(LIMIT_S) == 0
    watch.stdout.close()


@pytest.mark.usefixtures("utilities")
def test_a_domains_nodes_are_seen_and_go(daemon: Daemon) -> None:
    with StoreControl.connect(daemon.folder / places.CONTROL) as control:
        ends = control.introduce(5, UUID)
        daemon.tool("xenstore-write", "/local/domain/5/name", "guest", f"/vm/{UUID}/name", "guest")
        assert daemon.tool("xenstore-ls", "-f", "/local/domain") == (
            '/local/domain/5 = ""\n/local/domain/5/name = "guest"\n'
        )
        control.release(5)
        daemon.tool("xenstore-exists", "/local/domain/5", status=1)
        daemon.tool("xenstore-exists", f"/vm/{UUID}", status=1)
        for end in ends:
            assert end.recv(1) == b""
            end.close()


def test_xens_own_test_passes(daemon: Daemon) -> None:
    program = xen_program("test-xenstore")
    names = [line.split(":")[0].strip() for line in daemon.tool(program, "-l").splitlines()]
    assert len(names) >= 12
    said = daemon.tool(program, "-i", "20")
    assert [line.split(":")[0].strip() for line in said.splitlines()] == names
    assert "failed" not in said
    assert daemon.tool(program, "-r", "1") == ""


def test_xenstore_control(daemon: Daemon) -> None:
    program = xen_program("xenstore-control")
    assert "quota" in daemon.tool(program, "help")
    assert daemon.tool(program, "check").strip() == "OK"
    assert "watches" in daemon.tool(program, "quota")
