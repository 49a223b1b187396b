"""One build of the core for all of its tests."""

from collections.abc import Iterator

import pytest

from tests.unit.core.scripted import Core, compile_core, load_core
from tests.unit.core.world import World


@pytest.fixture(scope="session")
def core(tmp_path_factory: pytest.TempPathFactory) -> Core:
    return load_core(compile_core(tmp_path_factory.mktemp("core")))


@pytest.fixture
def world(core: Core) -> Iterator[World]:
    with World(core) as world:
        yield world
