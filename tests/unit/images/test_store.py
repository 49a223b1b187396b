"""Images: found, listed, removed, held."""

import fcntl
import json
import os
import struct
from pathlib import Path

import pytest

from tests.unit.images.bases import make_image
from xenion.images import store
from xenion.images.store import NameTakenError, StoreError, find, names, place, remove, unused


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def lock(image: store.Image, kind: int) -> int:
    """As a back end or QEMU holds a disk: a lock of the open file on a few bytes. The descriptor."""
    descriptor = os.open(image.disk, os.O_RDWR)
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack("hhxxxxqqixxxx", kind, os.SEEK_SET, 100, 1, 0))
    return descriptor


def test_where_images_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.folder() == tmp_path / "data" / "xenion" / "images"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store.folder() == tmp_path / ".local" / "share" / "xenion" / "images"


def test_what_is_written_is_found() -> None:
    image = make_image("web")
    assert find("web") == image
    facts = image.to_mapping()
    assert facts["size_bytes"] == 4096
    assert json.loads(json.dumps(facts))["disk"] == str(image.disk)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", ".a", "a b", "a\n", "lock", "a" * 65, "ä"])
def test_what_cannot_be_a_name(name: str) -> None:
    with pytest.raises(NameTakenError, match="no image's name"):
        place(name)
    with pytest.raises(NameTakenError):
        remove(name)


def test_names_are_sorted_and_of_folders_only() -> None:
    assert names() == []
    make_image("web")
    make_image("db")
    (store.folder() / "lock").touch()
    (store.folder() / ".unfinished-x").mkdir()
    assert names() == ["db", "web"]


def test_there_is_no_such_image() -> None:
    for act in (find, remove):
        with pytest.raises(StoreError, match="There is no image web"):
            act("web")


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"version": 1}', '{"version": 1, "added": [], "x": 1}'])
def test_a_damaged_image_is_told_and_can_be_removed(record: str) -> None:
    image = make_image("web")
    (image.folder / "image.json").write_text(record)
    with pytest.raises(StoreError, match="is damaged"):
        find("web")
    remove("web")
    assert names() == []


def test_an_image_without_its_disk_is_damaged() -> None:
    image = make_image("web")
    image.disk.unlink()
    with pytest.raises(StoreError, match="is damaged"):
        find("web")
    remove("web")


def test_another_version_is_refused() -> None:
    image = make_image("web")
    path = image.folder / "image.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2}))
    with pytest.raises(StoreError, match="of version 2, and this Xenion knows version 1"):
        find("web")


def test_removing_leaves_nothing() -> None:
    image = make_image("web")
    make_image("db")
    remove("web")
    assert not image.folder.exists()
    assert [path.name for path in store.folder().iterdir()] == ["db"]


@pytest.mark.parametrize("kind", [fcntl.F_RDLCK, fcntl.F_WRLCK])
def test_an_image_in_use_is_kept(kind: int) -> None:
    image = make_image("web")
    descriptor = lock(image, kind)
    with pytest.raises(StoreError, match="is in use"):
        remove("web")
    assert find("web") == image
    os.close(descriptor)
    remove("web")


def test_nobody_takes_an_image_that_is_held() -> None:
    image = make_image("web")
    with unused("web"), pytest.raises(BlockingIOError):
        lock(image, fcntl.F_RDLCK)
    os.close(lock(image, fcntl.F_RDLCK))


def test_a_link_is_no_image(tmp_path: Path) -> None:
    store.folder().mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (store.folder() / "web").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError):
        remove("web")
    assert (tmp_path / "elsewhere").exists()
