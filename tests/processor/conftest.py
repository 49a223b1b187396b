"""The suite that every processor passes: it is a parameter, a test a piece of machine code in a real domain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import pytest

from tests.processor.kit.assemble import missing
from tests.processor.kit.bench import Bench, Code, Outcome
from tests.processor.kit.limits import LIMITS, names_of
from tests.processor.kit.processors import ESSENTIAL, PROCESSORS, why_not
from xenion.processor import Processor
from xenion.processor.choose import open_processor


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "limit(name): what a processor cannot show; a row of docs/processor.md"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A row of the table of limits is a failure that must happen, on the processors that it names."""
    for item in items:
        for mark in item.iter_markers("limit"):
            name = getattr(item, "callspec", None) and item.callspec.params.get("processor")  # type: ignore[attr-defined]
            if name:
                _limit(item, mark.args[0], name)


def _limit(item: pytest.Item, row: str, processor: str) -> None:
    limit = LIMITS[row]
    names = names_of(processor) & set(limit.processors)
    if not names:
        return
    if names & set(limit.varies):
        item.add_marker(pytest.mark.skip(reason=f"{limit.what}: depends on the host"))
    else:
        item.add_marker(pytest.mark.xfail(strict=True, raises=AssertionError, reason=limit.shows))


@pytest.fixture
def limited(request: pytest.FixtureRequest, processor: str) -> Callable[[str], None]:
    """For a test that learns from its parameters that a row of the table of limits is about it."""
    return lambda row: _limit(request.node, row, processor)


@pytest.fixture(params=PROCESSORS)
def processor(request: pytest.FixtureRequest) -> str:
    """A processor's name; skips visibly where it cannot be used, but the one that has to work everywhere fails."""
    name = str(request.param)
    why = why_not(name)
    if why and name in ESSENTIAL:
        pytest.fail(why)
    if why:
        pytest.skip(why)
    return name


class Run(Protocol):
    def __call__(self, source: str, /, *, seconds: float = ..., **code: Any) -> Outcome: ...


@pytest.fixture
def bench(processor: str) -> Callable[..., Any]:
    """A context manager over a domain that has not run yet."""
    why = missing()
    if why:
        pytest.skip(why)

    @contextmanager
    def make(source: str, **code: Any) -> Iterator[Bench]:
        opened: Processor = open_processor(processor)
        made = Bench(opened, Code(source, **code))
        try:
            yield made
        finally:
            made.close()

    return make


@pytest.fixture
def run(bench: Callable[..., Any]) -> Run:
    """Runs machine code to its end in a domain of its own."""

    def go(source: str, /, *, seconds: float = 20, **code: Any) -> Outcome:
        with bench(source, **code) as made:
            outcome: Outcome = made.run(seconds)
            return outcome

    return go
