"""The processors that the suites run on."""

from functools import cache
from pathlib import Path

from xenion.processor import ProcessorError
from xenion.processor.choose import open_processor

PROCESSORS = ("software", "hardware")
ESSENTIAL = frozenset({"software"})
"""Those that have to work everywhere."""


@cache
def why_not(name: str) -> str | None:
    """Why a processor cannot be used here; None: it can."""
    try:
        open_processor(name)
    except ProcessorError as error:
        return str(error)
    return None


def host_is_intel() -> bool:
    return "GenuineIntel" in Path("/proc/cpuinfo").read_text()
