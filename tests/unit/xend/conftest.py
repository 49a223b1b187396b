import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.xend.kit import MARK, STANDIN, World, kill_standins
from tests.unit.xend.running import Xend
from xenion.xend import process


@pytest.fixture
def standins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Domains are stand-ins then, and none of them outlives its test."""
    monkeypatch.setattr(process, "PROGRAM", (sys.executable, "-IS", str(STANDIN)))
    monkeypatch.setenv(MARK, str(tmp_path))
    yield
    kill_standins(tmp_path)


@pytest.fixture
def world(tmp_path: Path, standins: None) -> World:
    return World(tmp_path)


@pytest.fixture
def xend(tmp_path: Path) -> Iterator[Xend]:
    made = Xend(tmp_path)
    yield made
    made.close()
