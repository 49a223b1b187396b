"""One build of the core for all of its tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.core.scripted import SANITIZE, Core, compile_core, load_core
from tests.unit.core.world import World


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_core(tmp_path_factory.mktemp("core"))


@pytest.fixture(scope="session")
def core(library: Path) -> Core:
    core = load_core(library)
    assert bool(core.lib.script_has_sanitizer()) == bool(os.environ.get(SANITIZE))
    return core


@pytest.fixture
def world(core: Core) -> Iterator[World]:
    with World(core) as world:
        yield world
