"""The one error that reading a configuration can end in."""

from __future__ import annotations

_SHOWN_CHARACTERS = 60


class ConfigError(ValueError):
    """A configuration that cannot be used.

    `sentence` says what is wrong and what to do, `key` names the configuration key where there is one, and
    `where` the place: `FILE:LINE:COLUMN`, `command line`, or nothing for a configuration that came as JSON.
    """

    def __init__(self, sentence: str, *, key: str | None = None, where: str | None = None) -> None:
        super().__init__(f"{where}: {sentence}" if where else sentence)
        self.sentence = sentence
        self.key = key
        self.where = where

    def at(self, where: str | None) -> ConfigError:
        """The same error with its place; a place that is already known is kept."""
        return ConfigError(self.sentence, key=self.key, where=self.where or where)


def shown(value: object) -> str:
    """A hostile value as it may stand in a sentence: on one line, printable, short."""
    text = ascii(value) if isinstance(value, str | int | float | bytes) else f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 4] + "..." + text[-1]
