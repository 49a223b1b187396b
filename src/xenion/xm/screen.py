"""`xm top` on a terminal: drawn with curses, driven by keys."""

import curses
import math
import time
from collections.abc import Callable

from xenion.xm.usage import HEADER, SORTS, Usage

HELP = (
    "q Q  quit",
    "n c m t i  sort by name, CPU share, memory, CPU time, id",
    "r  reverse the order",
    "v  show each domain's virtual CPUs, or not",
    "d  set the delay between samples",
    "p, space  stop refreshing, or go on",
    "arrows, page up and down  select a domain",
    "h  this help; any key leaves it",
)
STATE_COLOURS = {"running": curses.COLOR_GREEN, "paused": curses.COLOR_YELLOW, "crashed": curses.COLOR_RED}
DIGITS = 8
Sample = Callable[[Usage, bool], list[str]]
"""Takes a sample, with the virtual CPUs if true; returns the lines above the table, or what went wrong."""


class Screen:
    """Runs until the user leaves. `delay` is in seconds."""

    def __init__(self, window: "curses.window", sample: Sample, usage: Usage, delay: float) -> None:
        self._window = window
        self._sample = sample
        self._usage = usage
        self._delay = delay
        self._head: list[str] = []
        self._selected = self._first = 0
        self._vcpus = self._paused = False
        self._next = 0.0
        window.keypad(True)
        _set_up_curses()

    def run(self) -> None:
        while True:
            if not self._paused and time.monotonic() >= self._next:
                self._refresh()
            self._draw()
            key = self._key()
            if key in (ord("q"), ord("Q")):
                return
            self._on_key(key)

    def _refresh(self) -> None:
        self._head = self._sample(self._usage, self._vcpus)
        self._next = time.monotonic() + self._delay

    def _key(self) -> int:
        """The next key, or -1 when it is time for a sample."""
        left = max(self._next - time.monotonic(), 0)
        self._window.timeout(-1 if self._paused else int(left * 1000) + 1)
        return self._window.getch()

    # --- keys

    def _on_key(self, key: int) -> None:
        actions = {
            ord("r"): self._reverse,
            ord("v"): self._toggle_vcpus,
            ord("p"): self._toggle_paused,
            ord(" "): self._toggle_paused,
            ord("d"): self._ask_delay,
            ord("h"): self._help,
            ord("?"): self._help,
        }
        steps = {curses.KEY_UP: -1, curses.KEY_DOWN: 1, curses.KEY_PPAGE: -10, curses.KEY_NPAGE: 10}
        if 0 <= key < 128 and chr(key) in SORTS:
            self._usage.sort = SORTS[chr(key)]
            self._usage.order()
        elif key in actions:
            actions[key]()
        else:
            self._selected += steps.get(key, 0)

    def _reverse(self) -> None:
        self._usage.reverse = not self._usage.reverse
        self._usage.order()

    def _toggle_vcpus(self) -> None:
        self._vcpus = not self._vcpus
        self._refresh()

    def _toggle_paused(self) -> None:
        self._paused = not self._paused

    def _ask_delay(self) -> None:
        """A number of seconds; what is none changes nothing."""
        self._window.timeout(-1)
        self._put(0, "seconds between samples: ".ljust(self._size()[1] - 1), curses.A_BOLD)
        curses.echo()
        try:
            answer = self._window.getstr(0, len("seconds between samples: "), DIGITS)
            if math.isnan(seconds := float(answer)):
                return
            self._delay = min(max(seconds, 0.1), 86400.0)
        except (ValueError, curses.error):
            return
        finally:
            curses.noecho()

    def _help(self) -> None:
        self._window.erase()
        for number, line in enumerate(HELP):
            self._put(number, line)
        self._window.timeout(-1)
        self._window.getch()

    # --- drawing

    def _size(self) -> tuple[int, int]:
        rows, columns = self._window.getmaxyx()
        return rows, columns

    def _put(self, row: int, text: str, attributes: int = 0) -> None:
        """What does not fit is cut off."""
        rows, columns = self._size()
        if 0 <= row < rows and columns > 1:
            self._window.addnstr(row, 0, text, columns - 1, attributes)

    def _draw(self) -> None:
        self._window.erase()
        state = " [not refreshing]" if self._paused else ""
        for number, line in enumerate(self._head):
            self._put(number, line + (state if number == 0 else ""))
        self._put(len(self._head), HEADER.ljust(self._size()[1]), curses.A_REVERSE)
        self._draw_rows(len(self._head) + 1)
        self._window.refresh()

    def _draw_rows(self, top: int) -> None:
        lines, owners = self._lines()
        room = max(self._size()[0] - top, 1)
        self._selected = min(max(self._selected, 0), max(len(self._usage.rows) - 1, 0))
        place = owners.index(self._selected) if owners else 0
        self._first = min(max(self._first, place - room + 1), place)
        for number, (text, attributes) in enumerate(lines[self._first : self._first + room]):
            self._put(top + number, text, attributes)

    def _lines(self) -> tuple[list[tuple[str, int]], list[int]]:
        """Each line with its attributes, and which row it belongs to."""
        lines: list[tuple[str, int]] = []
        owners: list[int] = []
        for number, row in enumerate(self._usage.rows):
            bold = curses.A_BOLD if number == self._selected else 0
            lines.append((row.text, bold | _colour(row.domain["state"])))
            lines += [(text, 0) for text in row.vcpus]
            owners += [number] * (1 + len(row.vcpus))
        return lines, owners


def _set_up_curses() -> None:
    import os

    try:
        curses.curs_set(0)
    except curses.error:  # a terminal that cannot hide its cursor
        return
    if curses.has_colors() and not os.environ.get("NO_COLOR"):
        curses.use_default_colors()
        for number in STATE_COLOURS.values():
            curses.init_pair(number, number, -1)


def _colour(state: str) -> int:
    import os

    if state not in STATE_COLOURS or os.environ.get("NO_COLOR") or not curses.has_colors():
        return 0
    return curses.color_pair(STATE_COLOURS[state])


def run(sample: Sample, usage: Usage, delay: float) -> None:
    """On this terminal, which is as it was afterwards. curses.error: it is no terminal that can do this."""
    curses.wrapper(lambda window: Screen(window, sample, usage, delay).run())
