"""Overlays: whom they belong to, and how long they last."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.xend.disks.kit import MIB, disk, of_another, qcow2, raw, refusal, run
from xenion.config.disk import Disk, Format
from xenion.xend.disks import chain, overlay, qemu_img
from xenion.xend.disks.layers import Layers, layers_of
from xenion.xend.disks.place import DiskPlace

pytestmark = pytest.mark.usefixtures("tools")


@pytest.fixture
def over(tmp_path: Path) -> Disk:
    return disk(raw(tmp_path / "base", 3 * MIB), overlay=True)


def prepared(over: Disk, place: DiskPlace) -> Path:
    return run(overlay.prepare(over, place))  # type: ignore[no-any-return]


def mark(path: Path) -> int:
    """Of this very file, whatever becomes of its name."""
    return path.stat().st_ino


def test_made(over: Disk, place: DiskPlace) -> None:
    path = prepared(over, place)
    assert path == place.state / "disks" / "xvda.qcow2"
    found = chain.find(over, path, Format.QCOW2, place)
    assert [image.path for image in found] == [path, Path(over.target)]
    assert {image.size_bytes for image in found} == {3 * MIB}
    assert path.stat().st_mode & 0o077 == 0 or path.parent.stat().st_mode & 0o077 == 0


def test_over_qcow2(tmp_path: Path, place: DiskPlace) -> None:
    base = qcow2(tmp_path / "base", size=5 * MIB)
    over = disk(base, format=Format.QCOW2, overlay=True)
    found = chain.find(over, prepared(over, place), Format.QCOW2, place)
    assert [(image.format, image.size_bytes) for image in found] == [(Format.QCOW2, 5 * MIB)] * 2
    evil = qcow2(tmp_path / "evil", "-u", "-F", "raw", "-b", "json:{}", "-o", "size=1M")
    over = disk(evil, format=Format.QCOW2, overlay=True, vdev="xvdb")
    assert "only plain files" in run(refusal(overlay.prepare(over, place))).message


def test_the_same_domain_finds_it_again(over: Disk, place: DiskPlace) -> None:
    first = mark(prepared(over, place))
    assert mark(prepared(over, place)) == first
    lasting = replace(place, lasting=True)
    assert mark(prepared(over, lasting)) == first
    assert mark(prepared(over, lasting)) == first
    overlay.remove(place.state)
    assert (place.overlays / "xvda.qcow2").exists(), "it has come to last"


def test_another_domain_begins_anew(over: Disk, place: DiskPlace) -> None:
    path = prepared(over, place)
    with path.open("ab") as file:
        file.write(b"old")
    assert b"old" not in prepared(over, of_another(place)).read_bytes()
    os.utime(over.target, (1, 1))
    prepared(over, of_another(place, "3"))


def test_what_lasts_is_nobody_else_s(over: Disk, place: DiskPlace) -> None:
    first = mark(prepared(over, replace(place, lasting=True)))
    error = run(refusal(overlay.prepare(over, of_another(place))))
    assert "is the overlay of another domain, 1: move it away" in error.message
    overlay.remove(place.state)
    assert mark(place.overlays / "xvda.qcow2") == first


@pytest.mark.parametrize("change", ["time", "size", "other"])
def test_the_base_was_changed(over: Disk, place: DiskPlace, tmp_path: Path, change: str) -> None:
    first = mark(prepared(over, place))
    if change == "time":
        os.utime(over.target, (1, 1))
    elif change == "size":
        os.truncate(over.target, 4 * MIB)
    else:
        over = disk(raw(tmp_path / "another"), overlay=True)
    says = "is an overlay of" if change == "other" else "was changed since its overlay"
    assert says in run(refusal(overlay.prepare(over, place))).message
    assert mark(place.overlays / "xvda.qcow2") == first


def test_one_without_a_note_is_kept(over: Disk, place: DiskPlace) -> None:
    path = prepared(over, place)
    for text in ("", "[]", json.dumps({"uuid": "1"})):
        path.with_suffix(".json").write_text(text)
        assert "nobody knows what" in run(refusal(overlay.prepare(over, place))).message
    overlay.remove(place.state)
    assert path.exists()


def test_removed_with_its_domain(over: Disk, place: DiskPlace) -> None:
    overlay.remove(place.state)
    prepared(over, place)
    overlay.remove(place.state)
    assert not place.overlays.exists()
    overlay.remove(place.state)


def test_killed_while_it_was_made(over: Disk, place: DiskPlace) -> None:
    """A half-made file, an old note or a note without a file are nothing."""
    path = prepared(over, place)
    path.rename(path.with_name(f".{path.name}.new"))
    prepared(over, of_another(place))
    assert json.loads(path.with_suffix(".json").read_text())["uuid"] == "2"
    assert len(list(place.overlays.iterdir())) == 2


# --- with checkpoints


def checkpointed(over: Disk, place: DiskPlace) -> Layers:
    prepared(over, place)
    layers = layers_of(over, place.state)
    assert layers is not None
    run(layers.begin(place))
    layers.commit("one")
    return layers


def test_checkpoints_keep_it(over: Disk, place: DiskPlace) -> None:
    """Though its domain does not last."""
    first = mark(prepared(over, place))
    other = replace(over, vdev="xvdb")
    prepared(other, place)
    layers = checkpointed(over, place)
    overlay.remove(place.state)
    assert {path.name for path in place.overlays.iterdir()} == {"xvda.qcow2", "xvda.json"}
    assert mark(prepared(over, place)) == first
    assert layers.top() == layers.written()
    overlay.keep(place.state)
    assert json.loads((place.overlays / "xvda.json").read_text())["lasting"] is True


def test_checkpoints_of_another_domain_keep_it(over: Disk, place: DiskPlace) -> None:
    layers = checkpointed(over, place)
    first = mark(layers.image)
    error = run(refusal(overlay.prepare(over, of_another(place))))
    assert error.code == "refused"
    assert f"checkpoints of another domain, 1, keep {layers.image}: go back to one" in error.message
    assert mark(layers.image) == first
    other = replace(over, vdev="xvdb")
    prepared(other, place)
    assert mark(prepared(other, of_another(place))), "that one has none"


def test_one_that_is_only_begun_keeps_it(over: Disk, place: DiskPlace) -> None:
    """Whether it is a checkpoint is not known yet."""
    first = mark(prepared(over, place))
    layers = layers_of(over, place.state)
    assert layers is not None
    run(layers.begin(place))
    overlay.remove(place.state)
    assert mark(layers.image) == first
    layers.withdraw()
    overlay.remove(place.state)
    assert not layers.image.exists()


def test_without_checkpoints_it_ends_with_its_domain(over: Disk, place: DiskPlace) -> None:
    """The last one was deleted while the domain ran."""
    layers = checkpointed(over, place)
    layers.forget("one")
    layers.sweep()
    overlay.remove(place.state)
    assert not layers.image.exists()
    prepared(over, of_another(place))


def test_it_is_gone_and_its_layers_are_not(over: Disk, place: DiskPlace) -> None:
    """A new one is not what they are above."""
    layers = checkpointed(over, place)
    layers.image.unlink()
    assert "is gone, above which" in run(refusal(overlay.prepare(over, place))).message


def _read(path: Path) -> bytes:
    """Of a process that may go meanwhile."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_what_cannot_be_made(
    over: Disk, place: DiskPlace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    missing = disk(tmp_path / "none", overlay=True)
    assert "none does not exist" in run(refusal(overlay.prepare(missing, place))).message
    broken = tmp_path / "bin" / "qemu-img"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho 'no space' >&2; exit 1\n")
    broken.chmod(0o700)
    monkeypatch.setenv("PATH", f"{broken.parent}:{os.environ['PATH']}")
    assert "no space" in run(refusal(overlay.prepare(over, place))).message
    assert not (place.overlays / "xvda.qcow2").exists()
    broken.write_text("#!/bin/sh\nexec sleep 600\n")
    monkeypatch.setattr(qemu_img, "MAKING_S", 0.05)
    assert "does not end" in run(refusal(overlay.prepare(over, place))).message
    assert not [name for name in Path("/proc").glob("[0-9]*/cmdline") if os.fsencode(broken) in _read(name)]
