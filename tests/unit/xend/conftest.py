import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.xend.kit import MARK, STANDIN, World, kill_helpers, kill_standins
from tests.unit.xend.running import Xend
from xenion.xend import helpers, process


@pytest.fixture
def standins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Domains are stand-ins then, and none of them outlives its test."""
    monkeypatch.setattr(process, "PROGRAM", (sys.executable, "-IS", str(STANDIN)))
    monkeypatch.setenv(MARK, str(tmp_path))
    yield
    kill_standins(tmp_path)
    kill_helpers(tmp_path)


@pytest.fixture
def world(tmp_path: Path, standins: None) -> World:
    return World(tmp_path)


@pytest.fixture
def tools() -> None:
    """QEMU's block layer is here."""
    for program in ("qemu-img", "qemu-storage-daemon"):
        if not helpers.installed(program):
            pytest.skip(f"{program} is not here: apt-get install {helpers.PACKAGES[program]}")


@pytest.fixture
def xend(tmp_path: Path) -> Iterator[Xend]:
    made = Xend(tmp_path)
    yield made
    stores = made.stores()
    made.close()
    assert not stores, "a store is left behind, though no domain is there"
