"""What makes a root disk somebody's."""

import ctypes
import stat
from pathlib import Path

import pytest

from xenion.images.personal import (
    Personal,
    PersonalError,
    encrypted,
    files,
    host_name_of,
    read_keys,
    usual_keys,
)

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3Rr0Y0p0mHkH0m2aXcXo0kz0kSg3cWw8r6Lr1E7x5n me@here"
OTHER = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBA=="
SHADOW = b"root:*:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\n"
UUID = "01234567-89ab-4def-8123-456789abcdef"


def test_the_usual_disk_logs_root_in_on_the_console() -> None:
    written = files(Personal(hostname="web", keys=(KEY, OTHER)), UUID, SHADOW)
    assert {path: file.content for path, file in written.items() if file and not file.is_folder} | {} == {
        "/etc/hostname": b"web\n",
        "/etc/hosts": b"127.0.0.1 localhost\n127.0.1.1 web\n::1 localhost ip6-localhost\n",
        "/etc/fstab": f"UUID={UUID} / ext4 errors=remount-ro 0 1\n".encode(),
        "/root/.ssh/authorized_keys": f"{KEY}\n{OTHER}\n".encode(),
        "/etc/systemd/system/serial-getty@hvc0.service.d/autologin.conf": written[
            "/etc/systemd/system/serial-getty@hvc0.service.d/autologin.conf"
        ].content,  # type: ignore[union-attr]
    }
    ssh = written["/root/.ssh"]
    assert ssh
    assert ssh.mode == stat.S_IFDIR | 0o700


def test_without_keys_there_is_no_file_of_keys() -> None:
    assert not any("ssh" in path for path in files(Personal(hostname="web"), UUID, SHADOW))


def test_with_a_password_the_console_asks_for_it() -> None:
    written = files(Personal(hostname="web", password="secret"), UUID, SHADOW)
    assert not any("getty" in path for path in written)
    shadow = written["/etc/shadow"]
    assert shadow
    assert shadow.mode == 0o640
    root, daemon = shadow.content.decode().splitlines()
    name, hashed, rest = root.split(":", 2)
    assert (name, rest, daemon) == ("root", "19000:0:99999:7:::", "daemon:*:19000:0:99999:7:::")
    crypt = ctypes.CDLL("libcrypt.so.1").crypt
    crypt.argtypes, crypt.restype = [ctypes.c_char_p, ctypes.c_char_p], ctypes.c_char_p
    assert crypt(b"secret", hashed.encode()) == hashed.encode()
    assert crypt(b"Secret", hashed.encode()) != hashed.encode()


def test_a_password_is_hashed_with_a_salt_and_shown_nowhere() -> None:
    assert encrypted("secret") != encrypted("secret")
    assert "secret" not in repr(Personal(hostname="web", password="secret"))


@pytest.mark.parametrize("name", ["", "-a", "a-", "a_b", "a.b", "a" * 64, "ä", "a\n"])
def test_no_host_name(name: str) -> None:
    with pytest.raises(PersonalError, match="no host name"):
        Personal(hostname=name)


@pytest.mark.parametrize(
    "key", ["", "ssh-ed25519", "AAAA", f"{KEY}\n{KEY}", "command=x", KEY.replace("AAAA", "A A")]
)
def test_no_key(key: str) -> None:
    with pytest.raises(PersonalError, match="no public SSH key"):
        Personal(hostname="a", keys=(key,))


@pytest.mark.parametrize("password", ["", "a\nb", "a\0b"])
def test_no_password(password: str) -> None:
    with pytest.raises(PersonalError, match="password"):
        Personal(hostname="a", password=password)


@pytest.mark.parametrize(
    ("name", "host"),
    [("web", "web"), ("web_1.x", "web-1-x"), ("__", "debian"), ("a" * 64, "a" * 63), ("_a+", "a")],
)
def test_the_nearest_host_name(name: str, host: str) -> None:
    assert host_name_of(name) == host
    Personal(hostname=host)


def test_keys_are_given_or_in_files(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# mine\n\n  {OTHER}\n{KEY}\n")
    assert read_keys([KEY, str(file)]) == (KEY, OTHER)


def test_a_private_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "id"
    file.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nx\n")
    with pytest.raises(PersonalError, match=r"private key.*id\.pub"):
        read_keys([str(file)])


def test_files_without_keys(tmp_path: Path) -> None:
    with pytest.raises(PersonalError, match="neither a public SSH key nor a file with one: No such file"):
        read_keys([str(tmp_path / "none")])
    (tmp_path / "empty").touch()
    with pytest.raises(PersonalError, match="holds no public SSH key"):
        read_keys([str(tmp_path / "empty")])
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(PersonalError, match="it is no text"):
        read_keys([str(tmp_path / "bytes")])


def test_ones_own_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert usual_keys() == ()
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_ed25519.pub").write_text(KEY + "\n")
    (tmp_path / ".ssh" / "id_ed25519").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    (tmp_path / ".ssh" / "authorized_keys").write_text(OTHER + "\n")
    assert usual_keys() == (KEY,)
