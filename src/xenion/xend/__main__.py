"""`python -m xenion.xend`: the command `xend`."""

import sys

from xenion.xend.command import main

sys.exit(main(sys.argv[1:]))
