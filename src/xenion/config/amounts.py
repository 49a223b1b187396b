"""Amounts as people write them: `10M` bytes, `500` requests, xm's and xl's `10Mb/s@50ms`."""

from __future__ import annotations

import re

from xenion.config.errors import ConfigError, shown

AMOUNT_MAX = 1 << 53
"""JSON's readers agree on whole numbers up to here."""

_AMOUNT = re.compile(r"([0-9]{1,16})([KMGT]?)")
_RATE = re.compile(r"([0-9]{1,16})([GMK]?)([Bb])/s(?:@([0-9]{1,10})(us|ms|s|u|m))?")
_BINARY = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_DECIMAL = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
_MICROSECONDS = {"u": 1, "us": 1, "m": 1000, "ms": 1000, "s": 1_000_000}


def count(key: str, text: str) -> int:
    """A whole number from 0 on."""
    if not re.fullmatch("[0-9]{1,16}", text) or int(text) > AMOUNT_MAX:
        raise ConfigError(f"{key} must be a whole number from 0 on, not {shown(text)}", key=key)
    return int(text)


def amount(key: str, text: str) -> int:
    """Bytes; K, M, G and T behind the number are powers of 1024."""
    match = _AMOUNT.fullmatch(text)
    value = int(match[1]) << _BINARY[match[2]] if match else AMOUNT_MAX + 1
    if value > AMOUNT_MAX:
        sentence = f"{key} must be a number of bytes, or of K, M, G or T such as 10M, not {shown(text)}"
        raise ConfigError(sentence, key=key)
    return value


def rate(key: str, text: str) -> tuple[int, int | None]:
    """Bytes a second, 0 for no limit, and the microseconds of the window, None if the text gives none.

    As xl-network-configuration(5) has it; its page and its code differ on a window without a unit, which is refused.
    """
    match = _RATE.fullmatch(text)
    if match is None:
        form = "a number, KB, MB or GB (bits: Kb, Mb, Gb), /s and perhaps @20ms"
        raise ConfigError(
            f"{key} must be written as 10Mb/s or 1MB/s@20ms ({form}), not {shown(text)}", key=key
        )
    value = int(match[1]) * _DECIMAL[match[2]] // (8 if match[3] == "b" else 1)
    if value > AMOUNT_MAX or (not value and int(match[1])):
        raise ConfigError(f"{key} must be from 1 to {AMOUNT_MAX} bytes a second, not {shown(text)}", key=key)
    return value, int(match[4]) * _MICROSECONDS[match[5]] if match[4] else None
