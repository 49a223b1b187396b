"""Every probe says "ok" to every check it planned, and its domain ends as its source says."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.guest.kit import build
from tests.guest.limits import limited
from tests.guest.tap import complaints

if TYPE_CHECKING:
    from tests.guest.conftest import Boot


@pytest.mark.parametrize("probe", build.probes())
def test_probe(probe: str, boot_probe: Callable[[str], Boot]) -> None:
    boot = boot_probe(probe)
    wrong, expected = complaints(boot.console), limited(probe, boot.processor)
    failed = {line.split()[1] for line in wrong if line.startswith("FAIL ")}
    assert expected.must <= failed, "checks pass that could not: their row of the table of limits goes"
    known = expected.must | expected.may
    wrong = [line for line in wrong if not line.startswith("FAIL ") or line.split()[1] not in known]
    if boot.reason != ("crash" if failed else build.outcome(probe)):
        wrong.append(f"ended by {boot.reason}, not {build.outcome(probe)}: {boot.report or 'no report'}")
    assert not wrong, "\n".join([probe, *wrong])
