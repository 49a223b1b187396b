"""What building needs of the host."""

import os
import pwd
from pathlib import Path

import pytest

from xenion.images import host
from xenion.images.host import HostError


def test_missing_programs_are_told_by_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "find", lambda program: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HostError) as caught:
        host.check()
    text = str(caught.value)
    assert "sudo apt-get install" in text
    for package in ("mmdebstrap", "e2fsprogs", "uidmap"):
        assert package in text
    assert text.count("e2fsprogs") == 2  # named once, and once in the command


def test_root_needs_no_uidmap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "find", lambda program: None if "map" in program or "strap" in program else "x")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(HostError, match="`apt-get install mmdebstrap`") as caught:
        host.check()
    assert "uidmap" not in str(caught.value)


def test_the_keyring_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(host, "find", lambda program: "x")
    monkeypatch.setattr(host, "_KEYRING", tmp_path / "none")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(HostError, match="debian-archive-keyring"):
        host.check()


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("me:100000:65536\n", True),
        ("you:1:65536\n1000:100000:65536\n", True),
        ("me:100000:70000", True),
        ("me:100000:65535\n", False),
        ("you:100000:65536\n", False),
        ("me:100000\nme:100000:x\n\n:::\n", False),
        ("", False),
    ],
)
def test_a_users_own_ids(text: str, has: bool, tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    file.write_text(text)
    assert host._has_range(file, ("me", "1000")) is has


def test_without_the_file_there_are_no_ids(tmp_path: Path) -> None:
    assert not host._has_range(tmp_path / "none", ("me", "1000"))


def test_a_user_without_ids_is_told_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    user = pwd.getpwuid(os.geteuid()).pw_name
    monkeypatch.setattr(host, "_has_range", lambda file, names: "subgid" not in str(file))
    with pytest.raises(HostError, match=rf"/etc/subgid.*usermod --add-subgids 100000-165535 {user}"):
        host._check_ids()


def test_a_host_without_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "refusal", lambda: "Operation not permitted")
    with pytest.raises(HostError, match=r"no user namespaces \(Operation not permitted\).*build as root"):
        host._check_namespaces()
    monkeypatch.setattr(host, "refusal", lambda: None)
    host._check_namespaces()
