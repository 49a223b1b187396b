"""A Debian repository in a folder, which the real apt fetches from."""

import hashlib
import io
import shutil
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest

Member = tuple[tarfile.TarInfo, bytes]


def _tar(members: Iterable[Member]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def _ar(files: dict[str, bytes]) -> bytes:
    parts = [b"!<arch>\n"]
    for name, content in files.items():
        parts.append(f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode())
        parts.append(content + b"\n" * (len(content) % 2))
    return b"".join(parts)


class Repository:
    """A flat repository; what is added is offered after `publish`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._index: dict[str, str] = {}

    @staticmethod
    def file(name: str, content: bytes = b"", mode: int = 0o644) -> Member:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        member.mode = mode
        return member, content

    @staticmethod
    def symlink(name: str, target: str) -> Member:
        member = tarfile.TarInfo(name)
        member.type = tarfile.SYMTYPE
        member.linkname = target
        return member, b""

    def add(
        self,
        package: str,
        version: str,
        *members: Member,
        depends: str = "",
        data: bytes | None = None,
    ) -> Path:
        """Offers a package with these members, or with `data` as its whole data.tar."""
        control = f"Package: {package}\nVersion: {version}\nArchitecture: amd64\nMaintainer: a <a@b>\n"
        control += f"Depends: {depends}\n" if depends else ""
        control += "Description: test\n"
        content = _ar(
            {
                "debian-binary": b"2.0\n",
                "control.tar": _tar([self.file("./control", control.encode())]),
                "data.tar": _tar(members) if data is None else data,
            }
        )
        deb = self.folder / f"{package}_{version}_amd64.deb"
        deb.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        self._index[package] = f"{control}Filename: ./{deb.name}\nSize: {len(content)}\nSHA256: {digest}\n\n"
        return deb

    def publish(self) -> None:
        index = "".join(self._index.values()).encode()
        (self.folder / "Packages").write_bytes(index)
        digest = hashlib.sha256(index).hexdigest()
        (self.folder / "Release").write_text(
            f"Suite: test\nDate: Sat, 01 Jan 2022 00:00:00 UTC\nSHA256:\n {digest} {len(index)} Packages\n"
        )


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """An empty repository that is apt's only source; its sources file says that it is trusted unsigned."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        pytest.skip("apt-get and dpkg-deb are needed")
    folder = tmp_path / "repository"
    folder.mkdir()
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] copy:{folder} ./\n")
    config = tmp_path / "apt.conf"
    config.write_text(
        f'Dir::Etc::sourcelist "{tmp_path}/sources.list";\nDir::Etc::sourceparts "/dev/null";\n'
        'Dir::Etc::parts "/dev/null";\nDir::Etc::main "/dev/null";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(config))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Repository(folder)
