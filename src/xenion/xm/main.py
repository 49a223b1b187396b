"""xm: the command line. Each command is one small file in xm/commands, imported when it is used."""

import gc
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import ModuleType
from typing import Any

from xenion.xm import commands
from xenion.xm.errors import EXPECTED, UsageError, status_of
from xenion.xm.output import complain

EXIT_FAILURE, EXIT_INTERRUPTED = 1, 130


def names() -> list[str]:
    """Of all commands; `vcpu_list.py` is called `vcpu-list`."""
    files = (file for folder in commands.__path__ for file in os.listdir(folder))  # noqa: PTH208
    return sorted(file[:-3].replace("_", "-") for file in files if file.endswith(".py") and file[0] != "_")


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
    """The command's module; what it imports is kept, so that nothing is collected meanwhile (some milliseconds)."""
    gc.disable()
    try:
        return importlib.import_module(f"xenion.xm.commands.{name.replace('-', '_')}")
    finally:
        gc.enable()


def main(argv: Sequence[str]) -> int:
    """The exit status: 0 done, 1 failed, 2 wrong usage or configuration."""
    words = list(argv)
    if not words or words[0] in ("-h", "--help"):
        words = ["help", *words[1:]]
    elif words[0] in ("-V", "--version"):
        words = ["version"]
    try:
        status = _status(words)
        sys.stdout.flush()
        return status
    except EXPECTED as error:
        complain(str(error))
        return status_of(error)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # it is flushed once more at the end
        return EXIT_FAILURE
    except OSError as error:
        complain(f"{error.filename or 'the output cannot be written'}: {error.strerror}")
        return EXIT_FAILURE


def _status(words: Sequence[str]) -> int:
    try:
        return int(load(find(words[0])).run(words[1:]))
    except SystemExit as shown:  # argparse has printed the help
        return int(shown.code or 0)


def run() -> None:
    _open_standard_files()
    _turn_interrupts(signal.SIG_DFL, signal.default_int_handler)
    try:
        status = main(sys.argv[1:])
    except KeyboardInterrupt:
        status = EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001  nobody at a terminal has use for a traceback
        from xenion.xm.bug import tell_of

        tell_of(error)
        status = EXIT_FAILURE
    _turn_interrupts(signal.default_int_handler, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(status)  # the interpreter would tidy up for longer than most commands take


def _turn_interrupts(before: Any, now: Any) -> None:
    """Whoever started us may want them ignored."""
    if signal.getsignal(signal.SIGINT) == before:
        signal.signal(signal.SIGINT, now)


def _open_standard_files() -> None:
    """A descriptor that was closed must not become a socket of ours, nor a character that has no code an error."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
