"""xm help: the commands, or one command's own help."""

from collections.abc import Sequence

SUMMARY = "list the commands, or show the help of one"


def run(argv: Sequence[str]) -> int:
    from xenion.xm.main import find, load, names

    if argv:
        return int(load(find(argv[0])).run(["-h"]))
    print("usage: xm COMMAND [ARGUMENT ...]\n\ncommands:")
    for name in names():
        print(f"  {name:<10} {load(name).SUMMARY}")
    print('\n"xm COMMAND -h" tells a command\'s arguments; an unambiguous beginning of its name will do.')
    return 0
