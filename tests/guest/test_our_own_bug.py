"""A bug of ours while it serves a guest ends that domain, with our traceback in its report; the process lives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.guest.kit import build
from xenion.abi.xen import Hypercall
from xenion.domain.run import run_guest
from xenion.vmm.hypercalls import HANDLERS

if TYPE_CHECKING:
    from xenion.vmm.vcpu import Vcpu


def _broken(vcpu: Vcpu, args: list[int]) -> int:
    return 1 // (args[0] & 0)


def test_a_bug_in_a_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    if build.compiler() is None:
        pytest.skip("no C compiler to build the probes with: install gcc, or name one in CC")
    probe = build.compile_probe("version")
    monkeypatch.setitem(HANDLERS, int(Hypercall.xen_version), _broken)
    outcome = run_guest(probe, timeout_s=60)
    assert outcome.reason == "crash"
    assert outcome.report is not None
    assert "ZeroDivisionError" in outcome.report
    assert "_broken" in outcome.report
    assert "xen_version" in outcome.report
    monkeypatch.undo()
    assert run_guest(probe, timeout_s=60).reason == "poweroff"
