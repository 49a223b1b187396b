"""A place for a domain's disks, with a check that no helper of it outlives its test."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from xenion.xend import helpers
from xenion.xend.disks.place import DiskPlace
from xenion.xend.storage import private_folder


@pytest.fixture
def place(tmp_path: Path) -> Iterator[DiskPlace]:
    run, state = private_folder(tmp_path / "run"), private_folder(tmp_path / "state")
    said = os.open(tmp_path / "process.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    yield DiskPlace(name="web", uuid="1", run=run, state=state, said=said, lasting=False)
    os.close(said)
    left = helpers.strays(run, ())
    for helper in left:
        helper.process.kill()
    assert not left


@pytest.fixture
def tools() -> None:
    """QEMU's block layer is here."""
    for program in ("qemu-img", "qemu-io", "qemu-storage-daemon"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not here: install qemu-utils and qemu-system-common")
