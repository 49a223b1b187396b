"""The table on the terminal."""

from benches import table
from benches.record import Measured, Session


def session() -> Session:
    return Session(
        machine={"cpu": "a processor", "cores": 2, "kernel": "6.1", "load_1min": 0.5},
        runs=[
            Measured("xenion", 0, {"syscall": 0.9, "fork_exit_wait": 2000.0}, None, ""),
            Measured("tcg", 0, {"syscall": 0.5, "fork_exit_wait": 1000.0}, None, ""),
            Measured("xenion", 1, {"syscall": 1.1, "fork_exit_wait": 2000.0}, None, ""),
            Measured("tcg", 1, {"syscall": 0.5}, "killed", ""),
            Measured("xenion", 0, {"pss_less_guest_mib": 100.0}, None, ""),
        ],
    )


def line(text: str, row: str) -> str:
    return next(" ".join(each.split()) for each in text.splitlines() if each.startswith(row))


def test_rows_have_medians_spread_ratio_and_mark() -> None:
    text = table.render(session())
    assert text.splitlines()[0].split() == ["xenion", "tcg", "/tcg"]
    assert line(text, "syscall") == "syscall us 1 ±10% 0.5 2.00 ✗>1.75"
    assert line(text, "fork_exit_wait") == "fork_exit_wait us 2000 ±0% 1000 2.00"
    assert line(text, "pss_less_guest_mib") == "pss_less_guest_mib MiB 100 ✗>90 - -"


def test_legend_counts_targets() -> None:
    assert ": 2 missed, 1 met, 16 not measured." in table.render(session())


def test_legend_tells_the_machine() -> None:
    assert "a processor, 2 cores, Linux 6.1; load when it started: 0.50." in table.render(session())


def test_rows_come_in_the_yardsticks_order() -> None:
    names = [each.split()[0] for each in table.render(session()).splitlines()[1:4]]
    assert names == ["syscall", "fork_exit_wait", "pss_less_guest_mib"]


def test_without_xenion_there_are_no_ratios() -> None:
    text = table.render(Session([Measured("tcg", 0, {"syscall": 0.5}, None, "")]))
    assert text.splitlines()[0].split() == ["tcg"]
    assert line(text, "syscall") == "syscall us 0.5"
    assert "target" not in text


def test_a_session_of_failures_still_renders() -> None:
    text = table.render(Session([Measured("tcg", 0, {}, "killed", "")]))
    assert text.splitlines()[0].split() == ["tcg"]
