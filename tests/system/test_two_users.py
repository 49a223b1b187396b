"""Two users on one host: neither sees nor touches the other's domains."""

import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.system.other_user import Other
from tests.system.xm import Xm

if TYPE_CHECKING:
    from tests.system.conftest import Kernel


@pytest.fixture
def kernel(tiny_kernel: "Kernel", other: Other) -> Path:
    """Where both may read it."""
    copy = other.xm.folder / "kernel"
    shutil.copy(tiny_kernel("wait", "hello\n"), copy)
    copy.chmod(0o644)
    other.xm.folder.chmod(0o755)
    return copy


def test_each_has_domains_of_their_own(xm: Xm, other: Other, kernel: Path) -> None:
    assert xm.run("create", "-q", xm.config("mine", kernel=kernel, memory=16)).status == 0
    config = other.xm.config("theirs", kernel=kernel, memory=16)
    done = other.run("create", "-q", config)
    assert done.returncode == 0, done.stderr
    assert "mine" not in other.run("list").stdout
    assert "theirs" in other.run("list").stdout
    assert "theirs" not in xm.run("list").console
    for words in (("destroy", "mine"), ("console", "mine"), ("pause", "1", "2")):
        assert "mine" in xm.run("list").console
        assert other.run(*words).returncode != 0 or words[0] == "pause"
    assert [domain["state"] for domain in xm.json("list")][1] in ("running", "blocked")
    assert other.run("destroy", "theirs").returncode == 0
    assert xm.run("destroy", "mine").status == 0


def test_nobody_reaches_anothers_xend(xm: Xm, other: Other, kernel: Path) -> None:
    assert xm.run("create", "-q", xm.config("mine", kernel=kernel, memory=16)).status == 0
    there = {"XDG_RUNTIME_DIR": str(xm.run_folder), "XDG_STATE_HOME": str(xm.state)}
    done = other.run("list", **there)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Permission denied" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert xm.run("destroy", "mine").status == 0


def test_modes_of_files_and_sockets(xm: Xm, tiny_kernel: "Kernel") -> None:
    config = xm.config("mine", kernel=tiny_kernel("wait", "hello\n"), memory=16)
    assert xm.run("new", config).status == 0
    assert xm.run("start", "mine").status == 0
    assert xm.run("dump-core", "mine").status == 0
    wrong = {}
    for top in (xm.run_folder / "xenion", xm.state / "xenion"):
        for path in (top, *top.rglob("*")):
            mode = stat.S_IMODE(path.lstat().st_mode)
            if mode != (0o700 if path.is_dir() else 0o600):
                wrong[str(path)] = oct(mode)
    assert wrong == {}
    assert xm.run("destroy", "mine").status == 0
