"""Seeds for cloud-init, read back as a guest reads them."""

import json
import stat
import subprocess
from io import BytesIO
from pathlib import Path

import pycdlib
import pytest

from xenion.images.programs import environment, find
from xenion.images.seed import MOST_BYTES, SeedError, make_seed, meta_data_of

KEY = "ssh-ed25519 AAAA me"


def read(path: Path, kind: str) -> dict[str, bytes]:
    """The files by `kind` of name: rr_path or joliet_path."""
    image = pycdlib.PyCdlib()
    image.open(str(path))
    try:
        found = {}
        for child in image.list_children(**{kind: "/"}):
            if child is None or child.is_dir():
                continue
            rock = child.rock_ridge.name().decode() if kind == "rr_path" else ""
            name = rock or child.file_identifier().decode("utf-16-be")
            out = BytesIO()
            image.get_file_from_iso_fp(out, **{kind: f"/{name}"})
            found[name] = out.getvalue()
        return found
    finally:
        image.close()


@pytest.mark.parametrize("kind", ["rr_path", "joliet_path"])
def test_what_is_given_is_found_as_it_is(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "seed.iso"
    content = {
        "user_data": b"#!/bin/sh\n\xff",
        "meta_data": b"instance-id: x\n",
        "network_config": b"version: 2\n" * 999,
    }
    make_seed(path, instance_id="i", hostname="h", ssh_keys=[KEY], **content)
    assert read(path, kind) == {name.replace("_", "-"): data for name, data in content.items()}


def test_meta_data_is_made(tmp_path: Path) -> None:
    path = tmp_path / "seed.iso"
    make_seed(path, instance_id="one", hostname="web", ssh_keys=[KEY])
    files = read(path, "rr_path")
    assert set(files) == {"user-data", "meta-data"}
    assert files["user-data"].startswith(b"#cloud-config\n")
    assert json.loads(files["meta-data"]) == {
        "instance-id": "one",
        "local-hostname": "web",
        "public-keys": [KEY],
    }


def test_meta_data_without_name_and_keys() -> None:
    assert json.loads(meta_data_of("one", "", [])) == {"instance-id": "one"}


def test_empty_data_is_not_left_out(tmp_path: Path) -> None:
    make_seed(tmp_path / "s", instance_id="i", hostname="", user_data=b"", meta_data=b"", network_config=b"")
    assert read(tmp_path / "s", "rr_path") == {"user-data": b"", "meta-data": b"", "network-config": b""}


def test_its_label_is_what_cloud_init_looks_for(tmp_path: Path) -> None:
    make_seed(tmp_path / "s", instance_id="i", hostname="h")
    data = (tmp_path / "s").read_bytes()
    assert data[0x8001:0x8006] == b"CD001"
    assert data[0x8028:0x8048].rstrip() == b"cidata"
    assert len(data) % 2048 == 0
    if find("blkid"):
        said = subprocess.run(
            ["blkid", "-o", "export", tmp_path / "s"], env=environment(), capture_output=True, check=True
        )
        assert b"LABEL=cidata\n" in said.stdout
        assert b"TYPE=iso9660\n" in said.stdout


def test_it_is_for_its_owner_only_and_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "seed.iso"
    make_seed(path, instance_id="one", hostname="h")
    make_seed(path, instance_id="two", hostname="h")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b'"two"' in path.read_bytes()
    assert list(path.parent.iterdir()) == [path]


def test_too_much_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SeedError, match="user-data for cloud-init has 16777217 bytes"):
        make_seed(tmp_path / "s", instance_id="i", hostname="h", user_data=bytes(MOST_BYTES + 1))
    assert not (tmp_path / "s").exists()
