"""`python -m xenion.domain`: the domain process."""

import sys

from xenion.domain.main import main

sys.exit(main(sys.argv))
