"""One build of the core for all of its tests, and the settings of hypothesis for them."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.unit.core.scripted import Core, compile_core, load_core
from tests.unit.core.world import World

SHARED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("default-core", deadline=None, suppress_health_check=SHARED)
settings.register_profile("soak", deadline=None, suppress_health_check=SHARED, max_examples=20_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default-core"))


@pytest.fixture(scope="session")
def core(tmp_path_factory: pytest.TempPathFactory) -> Core:
    return load_core(compile_core(tmp_path_factory.mktemp("core")))


@pytest.fixture
def make_world(core: Core) -> Iterator[Callable[..., World]]:
    """Makes worlds that end with the test."""
    worlds: list[World] = []

    def make(*args: Any, **kwargs: Any) -> World:
        worlds.append(World(core, *args, **kwargs))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()
