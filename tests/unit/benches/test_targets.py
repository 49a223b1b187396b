"""Targets: data that is complete, and verdicts that follow from medians."""

import pytest

from benches import peers, rows, targets


def test_targets_name_rows_and_peers_that_exist() -> None:
    names = {peer.name for peer in peers.PEERS}
    assert targets.SUBJECT in names
    for target in targets.TARGETS:
        assert target.row in rows.BY_NAME
        assert target.against is None or target.against in names - {targets.SUBJECT}
        assert target.at_most > 0


def test_every_row_of_a_guest_has_a_target_against_real_xen() -> None:
    against_xen = {target.row for target in targets.TARGETS if target.against == "xen-tcg"}
    assert against_xen == {row.name for row in rows.ROWS} - {"pss_less_guest_mib"}


def test_no_pair_has_two_targets() -> None:
    pairs = [(target.row, target.against) for target in targets.TARGETS]
    assert len(set(pairs)) == len(pairs)


@pytest.mark.parametrize(
    ("row", "ours", "theirs", "met"),
    [
        ("syscall", 1.0, 3.0, True),
        ("syscall", 1.0, 2.9, False),
        ("memset_256M", 1.0, 2.0, True),
        ("memset_256M", 1.0, 1.9, False),
        ("fork_exit_wait", 1.0, 1.0, True),
        ("fork_exit_wait", 1.01, 1.0, False),
        ("alu_200M", 1.04, 1.0, True),
        ("alu_200M", 1.06, 1.0, False),
    ],
)
def test_verdict_against_real_xen(row: str, ours: float, theirs: float, met: bool) -> None:
    (verdict,) = targets.judge({row: {"xenion": ours, "xen-tcg": theirs}})
    assert verdict.target.against == "xen-tcg"
    assert verdict.measured == pytest.approx(ours / theirs)
    assert verdict.met is met


@pytest.mark.parametrize(("mib", "met"), [(90.0, True), (90.1, False)])
def test_memory_is_judged_by_itself(mib: float, met: bool) -> None:
    (verdict,) = targets.judge({"pss_less_guest_mib": {"xenion": mib}})
    assert verdict.target.against is None
    assert verdict.measured == mib
    assert verdict.met is met


def test_what_was_not_measured_is_not_judged() -> None:
    assert targets.judge({}) == []
    assert targets.judge({"syscall": {"tcg": 1.0, "host": 1.0}}) == []
    assert targets.judge({"syscall": {"xenion": 1.0, "host": 1.0}}) == []
    assert targets.ratio({"syscall": {"xenion": 1.0}}, "syscall", "tcg") is None
    assert targets.ratio({"syscall": {"xenion": 1.0, "tcg": 4.0}}, "syscall", "tcg") == 0.25
