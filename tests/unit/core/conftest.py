"""One build of the core for all of its tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.core.scripted import Core, compile_core, load_core
from tests.unit.core.world import World


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_core(tmp_path_factory.mktemp("core"))


@pytest.fixture(scope="session")
def core(library: Path) -> Core:
    return load_core(library)


@pytest.fixture
def world(core: Core) -> Iterator[World]:
    with World(core) as world:
        yield world
