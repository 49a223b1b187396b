"""How many examples a property test tries: all where the sanitizers look on, some of them otherwise, and many with
HYPOTHESIS_PROFILE=soak."""

import os

from hypothesis import settings

SOAK = os.environ.get("HYPOTHESIS_PROFILE") == "soak"
SANITIZED = bool(os.environ.get("XENION_SANITIZE"))
SOAK_FACTOR, PLAIN_PART = 100, 3


def examples(count: int) -> settings:
    most = count * SOAK_FACTOR if SOAK else count if SANITIZED else max(count // PLAIN_PART, 1)
    return settings(max_examples=most, report_multiple_bugs=False)
