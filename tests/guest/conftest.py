"""Boots probes on Xenion, or with ``pytest tests/guest --oracle`` on a real Xen (XENION_ORACLE_XEN)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest

from tests.guest import oracle
from tests.guest.kit import build
from tests.processor.kit.processors import PROCESSORS, why_not
from xenion.processor.choose import open_processor


@dataclass(frozen=True)
class Boot:
    """How a probe's domain went: its console, why it ended, and the report of a crash."""

    console: str
    reason: str
    report: str | None
    processor: str


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--oracle``: ask a real Xen instead of Xenion."""
    parser.addoption(
        "--oracle", action="store_true", help="boot the guest probes on the Xen that XENION_ORACLE_XEN names"
    )


@cache
def _vcpus_of(processor: str) -> int:
    """The most that a domain has on it."""
    return open_processor(processor).features.max_vcpus


def _on_xenion(probe: str, processor: str) -> Boot:
    from xenion.domain.run import run_guest

    wanted, most = build.vcpus(probe), _vcpus_of(processor)
    if wanted > most:
        pytest.skip(f"{probe} needs {wanted} vCPUs, and the {processor} processor has {most} for a domain")
    done = run_guest(
        build.compile_probe(probe),
        memory_mib=32,
        vcpus=wanted,
        processor=processor,
        timeout_s=build.seconds(probe),
    )
    return Boot(done.console, done.reason, done.report, processor)


def _on_oracle(probe: str, processor: str) -> Boot:
    if build.vcpus(probe) > 1:
        pytest.skip(f"{probe} needs {build.vcpus(probe)} vCPUs, and the oracle has one for its domain 0")
    done = oracle.ask(build.compile_probe(probe), oracle.BOOT_S + build.seconds(probe))
    return Boot(done.console, done.reason, done.report, "xen")


@pytest.fixture(scope="session", params=PROCESSORS)
def boot_probe(request: pytest.FixtureRequest) -> Callable[[str], Boot]:
    """Builds a probe, boots it and tells how it went; skips visibly where that cannot be done."""
    if build.compiler() is None:
        pytest.skip("no C compiler to build the probes with: install gcc, or name one in CC")
    runner, processor = _on_xenion, str(request.param)
    if why := why_not(processor):
        pytest.skip(why)
    if request.config.getoption("--oracle", default=False):
        why = oracle.missing()
        if why:
            pytest.skip(why)
        runner = _on_oracle
        if processor != "software":
            pytest.skip("there is one oracle")

    def boot(probe: str) -> Boot:
        return runner(probe, processor)

    return boot
