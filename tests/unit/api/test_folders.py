"""Where things are, for users and for root."""

import os
from pathlib import Path

import pytest

from xenion.api.errors import UnreachableError
from xenion.api.folders import Folders, configuration_file, folders


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_STATE_HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")


def become(monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)


def test_of_root(monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, 0)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/0")
    assert folders() == Folders(Path("/run/xenion"), Path("/var/lib/xenion"))
    assert configuration_file() == Path("/etc/xenion/xend.toml")


@pytest.mark.parametrize("uid", [0, 1000])
def test_as_chosen(monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    become(monkeypatch, uid)
    for name in ("STATE_HOME", "RUNTIME_DIR", "CONFIG_HOME"):
        monkeypatch.setenv(f"XDG_{name}", f"/x/{name}")
    assert folders() == Folders(Path("/x/RUNTIME_DIR/xenion"), Path("/x/STATE_HOME/xenion"))
    assert configuration_file() == Path("/x/CONFIG_HOME/xenion/xend.toml")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert folders().run == Path("/x/STATE_HOME/xenion/run")


@pytest.mark.parametrize("value", [None, "", "relative/path"])
def test_of_users(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    """What is no absolute path is ignored: xend and xm are not in the same folder."""
    become(monkeypatch, 1000)
    for name in ("XDG_STATE_HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        if value is not None:
            monkeypatch.setenv(name, value)
    state = Path("/home/me/.local/state/xenion")
    assert folders() == Folders(state / "run", state)
    assert configuration_file() == Path("/home/me/.config/xenion/xend.toml")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert folders().run == Path("/run/user/1000/xenion")


def test_what_is_in_them() -> None:
    where = Folders(Path("/r"), Path("/s"))
    assert [str(path) for path in (where.socket, where.lock, where.domains, where.managed, where.dumps)] == [
        "/r/xend.sock", "/r/xend.lock", "/r/domains", "/s/managed", "/s/dumps",
    ]  # fmt: skip
    assert str(where.logs("web")) == "/s/domains/web"


def test_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whom the host does not know, or whose home is no place."""
    become(monkeypatch, 54321)

    def unknown() -> Path:
        raise RuntimeError

    for home in (unknown, lambda: Path("relative")):
        monkeypatch.setattr(Path, "home", home)
        with pytest.raises(UnreachableError, match="not known: set HOME or XDG_STATE_HOME"):
            folders()
        with pytest.raises(UnreachableError, match="not known: set HOME or XDG_CONFIG_HOME"):
            configuration_file()
