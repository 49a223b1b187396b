"""Counting boots."""

import pytest

from benches import boots
from benches.boots import Boot

GOOD = "BENCH kernel_to_init 1.5 s\nBENCH-DONE\n"


def test_a_good_boot() -> None:
    assert boots.judge(1, GOOD, None, "1.log") == Boot(1, 1.5, None, "1.log")


@pytest.mark.parametrize(
    ("console", "failure", "expected"),
    [
        ("", None, "ended before its init started"),
        ("BENCH kernel_to_init 1.5 s\n", None, "ended without BENCH-DONE"),
        (GOOD, "ended with exit status 1", "ended with exit status 1"),
    ],
)
def test_a_bad_boot_says_why(console: str, failure: str | None, expected: str) -> None:
    boot = boots.judge(1, console, failure, "1.log")
    assert boot.failure == expected
    assert boot.report == "1.log"


def test_the_domains_report_goes_before_the_log() -> None:
    console = "Domain crashed: unexpected trap; its report is in /var/x/report-3.txt.\n"
    assert boots.judge(3, console, "ended with exit status 1", "3.log").report == "/var/x/report-3.txt"


def test_a_soak_counts_failures_and_tells_each_report() -> None:
    told: list[str] = []

    def once(number: int) -> Boot:
        return Boot(number, float(number), "hung" if number == 2 else None, f"{number}.log")

    failures = boots.soak(10, once, told.append)
    assert [boot.number for boot in failures] == [2]
    assert told == [
        "boot 2 of 10 FAILED: hung; report: 2.log",
        "boot 10 of 10: 10 s to init",
        "10 boots, 1 failed; seconds to init: 1 to 10, median 6",
    ]


def test_a_soak_of_failures_has_no_times() -> None:
    told: list[str] = []
    assert len(boots.soak(2, lambda number: Boot(number, None, "hung", "x"), told.append)) == 2
    assert told[-1] == "2 boots, 2 failed"
