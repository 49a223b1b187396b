"""Boots probes on Xenion, or with ``pytest tests/guest --oracle`` on a real Xen (XENION_ORACLE_XEN)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.guest import oracle
from tests.guest.kit import build
from tests.processor.kit.processors import PROCESSORS, why_not


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


def _on_xenion(kernel: Path, seconds: float, processor: str) -> Boot:
    from xenion.domain.run import run_guest

    done = run_guest(kernel, memory_mib=32, cmdline="", processor=processor, timeout_s=seconds)
    return Boot(done.console, done.reason, done.report, processor)


def _on_oracle(kernel: Path, seconds: float, processor: str) -> Boot:
    done = oracle.ask(kernel, oracle.BOOT_S + seconds)
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
        return runner(build.compile_probe(probe), build.seconds(probe), processor)

    return boot
