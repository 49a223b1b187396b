"""Reading BENCH lines off a console that a guest wrote."""

import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benches import assets, rows

CONSOLE = """\
SeaBIOS (version 1.16.2)
BENCH kernel_to_init 1.72 s
(XEN) something BENCH alu_200M 0.5 s
BENCH syscall 0.498 us \r
BENCH page_fault 1.2e+01 us
BENCH-DONE
[    4.1] reboot: Power down
"""


def test_reads_every_row_of_a_console() -> None:
    assert rows.parse(CONSOLE) == {
        "kernel_to_init": 1.72,
        "alu_200M": 0.5,
        "syscall": 0.498,
        "page_fault": 12.0,
    }


@pytest.mark.parametrize(
    "line",
    [
        "BENCH made_up 1 s",
        "BENCH syscall 1 s",
        "BENCH syscall nan us",
        "BENCH syscall 0 us",
        "BENCH syscall -1 us",
        "BENCH syscall 1e999 us",
        "BENCH syscall 1.2.3 us",
        "BENCH syscall 1 us trailing",
        "BENCH syscall ٣ us",
        "BENCH exec_to_init 1 s",
        "BENCH pss_less_guest_mib 1 MiB",
        "BENCH-FAILED syscall",
        "echo BENCH syscall $value us",
    ],
)
def test_leaves_out_what_is_no_row_of_a_guest(line: str) -> None:
    assert rows.parse(line + "\n") == {}


def test_the_first_of_two_counts() -> None:
    assert rows.parse("BENCH syscall 1 us\nBENCH syscall 2 us\n") == {"syscall": 1.0}


@given(st.text())
def test_any_console_gives_known_rows_and_good_numbers(console: str) -> None:
    for name, value in rows.parse("BENCH syscall 1 us\n" + console).items():
        assert name in rows.BY_NAME
        assert math.isfinite(value)
        assert value > 0


@given(st.floats(min_value=1e-9, max_value=1e9), st.sampled_from(rows.GUEST_ROWS))
def test_reads_back_what_the_guest_prints(value: float, row: rows.Row) -> None:
    printed = f"{value:.6g}"
    assert rows.parse(f"BENCH {row.name} {printed} {row.unit}\n") == {row.name: float(printed)}


def test_the_guest_program_prints_the_rows_in_their_order() -> None:
    source = Path(assets.GUEST / "bench.c").read_text()
    table = re.findall(r'^\t\{ "(\w+)", \w+, (\w+) \},$', source, re.MULTILINE)
    assert [(name, "s" if count == "0" else "us") for name, count in table] == [
        (row.name, row.unit) for row in rows.GUEST_ROWS
    ]


def test_names_are_unique() -> None:
    assert len(rows.BY_NAME) == len(rows.ROWS)
