"""The configuration file that a command names, read; its notes go to standard error."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from xenion.config.domain import DomainConfig
from xenion.config.errors import ConfigError
from xenion.config.xmfile import load
from xenion.xm.arguments import overrides
from xenion.xm.errors import UsageError
from xenion.xm.output import escaped


def configuration(args: Namespace) -> DomainConfig:
    """Of `configuration_arguments`: the file is the first argument or -f's, the rest are overrides. UsageError."""
    words: list[str] = list(args.overrides)
    path: str | None = args.defconfig
    if path is None:
        path = args.file
    elif args.file is not None:
        words.insert(0, args.file)
    if path is None:
        raise UsageError("give the configuration file: FILE or -f FILE")
    return read(path, words)


def read(path: str, words: Sequence[str]) -> DomainConfig:
    """UsageError."""
    try:
        return load(Path(path), overrides(words))
    except ConfigError as error:
        raise UsageError(str(error)) from error


def tell_notes(config: DomainConfig) -> None:
    tell(config.notes)


def tell(notes: Sequence[str]) -> None:
    """What of a configuration has no effect."""
    for note in notes:
        print(f"note: {escaped(note)}", file=sys.stderr)
