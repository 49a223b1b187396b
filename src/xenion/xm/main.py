"""xm: the command line. Each command is one small file in xm/commands, imported when it is used."""

import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence
from types import ModuleType

from xenion.xm import commands
from xenion.xm.errors import UsageError, XmError

EXIT_FAILURE, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def names() -> list[str]:
    return sorted(m.name for m in pkgutil.iter_modules(commands.__path__))


def find(word: str) -> str:
    """The command that `word` names or begins unambiguously; UsageError with the nearest otherwise."""
    known = names()
    if word in known:
        return word
    fitting = [name for name in known if name.startswith(word)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UsageError(f'"{word}" may mean {", ".join(fitting)}: write more of it')
    import difflib

    near = difflib.get_close_matches(word, known, n=1)
    hint = f'did you mean "{near[0]}"?' if near else 'see "xm help"'
    raise UsageError(f'there is no command "{word}"; {hint}')


def load(name: str) -> ModuleType:
    return importlib.import_module(f"xenion.xm.commands.{name}")


def main(argv: Sequence[str]) -> int:
    """The exit status: 0 done, 1 failed, 2 wrong usage or configuration."""
    words = list(argv)
    if not words or words[0] in ("-h", "--help"):
        words = ["help", *words[1:]]
    elif words[0] in ("-V", "--version"):
        words = ["version"]
    try:
        status = int(load(find(words[0])).run(words[1:]))
        sys.stdout.flush()
        return status
    except UsageError as error:
        print(f"xm: {error}", file=sys.stderr)
        return EXIT_USAGE
    except XmError as error:
        print(f"xm: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter flushes once more at its end
        return EXIT_FAILURE


def run() -> None:
    sys.exit(main(sys.argv[1:]))
