"""The workshop: the real namespaces where this host has them."""

import os
import subprocess
from pathlib import Path

import pytest

from xenion.images import workshop as module
from xenion.images.programs import run
from xenion.images.workshop import (
    NEEDED_BYTES,
    RoomError,
    Workshop,
    need_room,
    refusal,
    spare_memory,
    workshop,
)

isolated = pytest.mark.skipif(refusal() is not None, reason=f"no namespaces here: {refusal()}")


def test_room_is_needed(tmp_path: Path) -> None:
    need_room(tmp_path, 1)
    with pytest.raises(RoomError, match=r"Only \d+ MiB are free .* and 1099511627776 MiB are needed"):
        need_room(tmp_path, 1 << 60)
    with pytest.raises(RoomError, match="cannot be used: No such file"):
        need_room(tmp_path / "none", 1)


def test_memory_is_not_more_than_there_is() -> None:
    assert 0 <= spare_memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_a_control_group_limits_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_group_limits", lambda: iter([(1 << 30) + 5]))
    assert spare_memory() <= 5
    monkeypatch.setattr(module, "_group_limits", lambda: iter([7]))
    assert spare_memory() == 0


def test_it_is_gone_afterwards(tmp_path: Path) -> None:
    place = tmp_path / "work"
    place.mkdir()
    (place / "leftover").touch()
    with workshop(place) as made:
        assert made.folder == place
        assert list(place.iterdir()) == []
        (place / "file").touch()
    assert not place.exists()
    with pytest.raises(LookupError), workshop(place):
        raise LookupError
    assert not place.exists()


@isolated
def test_little_memory_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for spare, used in ((NEEDED_BYTES - 1, 0), (NEEDED_BYTES, NEEDED_BYTES)):
        monkeypatch.setattr(module, "spare_memory", lambda spare=spare: spare)
        with workshop(tmp_path / "work") as made:
            assert made.memory_bytes == used


@isolated
def test_inside_we_are_root_with_mounts_and_processes_of_our_own(tmp_path: Path) -> None:
    with workshop(tmp_path / "work") as made:
        script = 'id -u; echo $$; stat -f -c %T "$0"; mount -t tmpfs none /mnt; touch "$0/file"'
        shop = Workshop(made.folder, True, 1 << 20)
        said = run(shop.inside(["sh", "-c", script, str(made.folder)]), folder=tmp_path).split()
        assert said == ["0", "1", "tmpfs"]
        assert list(made.folder.iterdir()) == []
    assert "/mnt tmpfs" not in Path("/proc/mounts").read_text()


@isolated
def test_on_a_disk_what_is_made_stays_until_the_end(tmp_path: Path) -> None:
    with workshop(tmp_path / "work") as made:
        shop = Workshop(made.folder, True, 0)
        run(shop.inside(["sh", "-c", 'mkdir "$0/d"; chown -R 1:1 "$0/d"', str(made.folder)]), folder=tmp_path)
        assert (made.folder / "d").stat().st_uid != os.geteuid()
    assert not (tmp_path / "work").exists()


def test_without_namespaces_a_command_runs_as_it_is(tmp_path: Path) -> None:
    assert Workshop(tmp_path, False, 0).inside(["true", "x"]) == ["true", "x"]


def test_why_there_are_no_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, b"", b"unshare: unshare failed: Operation not permitted\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    assert refusal() == "unshare failed: Operation not permitted"
