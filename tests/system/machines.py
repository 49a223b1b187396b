"""Machines for tests that every processor has to pass."""

from typing import Any

import pytest

from tests.processor.kit.processors import why_not
from xenion.processor.hardware import is_software_kvm

SOFTWARE = {"processor": "software"}
HARDWARE = {"processor": "hardware"}
_WHY_NOT = why_not("hardware")
_USABLE = pytest.mark.skipif(_WHY_NOT is not None, reason=str(_WHY_NOT))


def has_own_tsc(machine: dict[str, Any]) -> bool:
    """It stands still while the guest does; docs/processor.md says where it does not."""
    return not (machine == HARDWARE and is_software_kvm())


def alone() -> list[Any]:
    """Parameters: settings of a configuration with one virtual CPU."""
    return [
        pytest.param(SOFTWARE, id="software"),
        pytest.param(HARDWARE, id="hardware", marks=_USABLE),
    ]


def machines(vcpus: int = 3) -> list[Any]:
    """As the former, and the processor that can with several."""
    return [*alone(), pytest.param(SOFTWARE | {"vcpus": vcpus}, id="several")]
