"""How many examples a property test tries: few in an ordinary run, many with HYPOTHESIS_PROFILE=soak."""

import os

from hypothesis import settings

SOAK = os.environ.get("HYPOTHESIS_PROFILE") == "soak"
SOAK_FACTOR = 100


def examples(count: int) -> settings:
    return settings(
        max_examples=count * SOAK_FACTOR if SOAK else count, deadline=None, report_multiple_bugs=False
    )
