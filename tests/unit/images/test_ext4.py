"""File systems in files, worked on by the real e2fsprogs."""

import stat
import subprocess
from pathlib import Path

import pytest

from xenion.images.ext4 import FOLDER, Ext4Error, File, FileSystem
from xenion.images.programs import ProgramError, environment, find

pytestmark = pytest.mark.skipif(find("mke2fs") is None, reason="e2fsprogs is not here")
SIZE = 16 << 20


@pytest.fixture
def image(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc" / "hostname").write_text("old\n")
    path = tmp_path / "root.img"
    options = ["-q", "-t", "ext4", "-O", "^orphan_file,metadata_csum_seed", "-d", str(tree)]
    subprocess.run(["mke2fs", *options, str(path), "16M"], env=environment(), check=True)
    return path


@pytest.fixture
def system(image: Path, tmp_path: Path) -> FileSystem:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return FileSystem(image, scratch)


def test_what_is_there(system: FileSystem) -> None:
    assert system.names("/") == ["etc", "lost+found"]
    assert system.read("/etc/hostname") == b"old\n"
    assert system.mode("/etc/hostname") == stat.S_IFREG | 0o644
    assert system.mode("/etc/none") is None
    assert system.mode("/none/none") is None
    system.check()


def test_files_and_folders_are_written_and_replaced(system: FileSystem, tmp_path: Path) -> None:
    system.write(
        {
            "/etc/hostname": File(b"new\n"),
            "/root": File(mode=stat.S_IFDIR | 0o700),
            "/root/.ssh": FOLDER,
            "/root/.ssh/authorized_keys": File(bytes(range(256)) * 100, 0o600),
            "/etc/unit@hvc0.d": FOLDER,
            "/etc/unit@hvc0.d/a.conf": File(b""),
        }
    )
    assert system.read("/etc/hostname") == b"new\n"
    assert system.read("/root/.ssh/authorized_keys") == bytes(range(256)) * 100
    assert system.mode("/root/.ssh/authorized_keys") == stat.S_IFREG | 0o600
    assert system.mode("/root") == stat.S_IFDIR | 0o700
    assert system.mode("/etc/unit@hvc0.d/a.conf") == stat.S_IFREG | 0o644
    system.check()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_what_is_written_belongs_to_root(system: FileSystem, image: Path) -> None:
    system.write({"/etc/x": File(b"x")})
    shown = subprocess.run(
        ["debugfs", "-R", "stat /etc/x", str(image)], env=environment(), capture_output=True, check=True
    ).stdout.decode()
    assert "User:     0   Group:     0" in shown


def test_a_file_is_removed_or_was_not_there(system: FileSystem) -> None:
    system.write({"/etc/hostname": None, "/etc/none": None})
    assert system.names("/etc") == []
    system.check()


def test_a_file_is_dumped(system: FileSystem, tmp_path: Path) -> None:
    system.dump("/etc/hostname", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"old\n"
    with pytest.raises(ProgramError, match="File not found"):
        system.dump("/etc/none", tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("path", ["etc/x", "/etc/a b", '/etc/"', "/etc/../x", "/etc/x\nrm /etc", "/", ""])
def test_paths_that_debugfs_would_not_take_as_one(path: str, system: FileSystem) -> None:
    with pytest.raises(Ext4Error, match=r"no (path|file)"):
        system.write({path: File(b"x")})


@pytest.mark.parametrize("size", [SIZE * 2, SIZE, SIZE // 2])
def test_it_grows_and_shrinks(size: int, system: FileSystem, image: Path) -> None:
    assert system.smallest() < SIZE // 2
    system.resize(size)
    assert image.stat().st_size == size
    assert system.header("Block count") * system.header("Block size") == size
    assert system.read("/etc/hostname") == b"old\n"
    system.check()


def test_growing_takes_no_room(system: FileSystem, image: Path) -> None:
    before = image.stat().st_blocks
    system.resize(1 << 30)
    assert (image.stat().st_blocks - before) * 512 < 8 << 20


def test_it_cannot_shrink_below_what_is_in_it(system: FileSystem, image: Path) -> None:
    system.write({"/etc/large": File(bytes(1 << 20) + b"x" * (6 << 20))})
    with pytest.raises(ProgramError, match="resize2fs has failed"):
        system.resize(4 << 20)
    assert image.stat().st_size == SIZE


def test_another_uuid(system: FileSystem, image: Path) -> None:
    uuid = "01234567-89ab-4def-8123-456789abcdef"
    system.identify(uuid)
    said = subprocess.run(["dumpe2fs", "-h", str(image)], env=environment(), capture_output=True, check=True)
    assert uuid in said.stdout.decode()
    system.check()


def test_what_is_no_file_system(tmp_path: Path) -> None:
    path = tmp_path / "none.img"
    path.write_bytes(bytes(1 << 20))
    system = FileSystem(path, tmp_path)
    with pytest.raises(ProgramError, match="debugfs has failed"):
        system.names("/")
    with pytest.raises(ProgramError, match="e2fsck has failed"):
        system.check()
    with pytest.raises(ProgramError, match="dumpe2fs has failed"):
        system.header("Block count")
