"""`python -m xenion.domain`: the domain process."""

import sys

from xenion.domain.main import run

run(sys.argv)
