"""Sessions of small stand-in programs: the order, what is kept, and what a bad run becomes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from benches import session
from benches.assets import Assets
from benches.peers import Peer, Run
from benches.record import Session
from benches.rows import GUEST_ROWS, ROWS

EVERY_ROW = frozenset(row.name for row in ROWS)
GUEST_LINES = "".join(f"echo BENCH {row.name} 2 {row.unit};" for row in GUEST_ROWS)
GOOD = f"echo BENCH kernel_to_init 1 s; {GUEST_LINES} echo BENCH-DONE"


def peer(
    name: str, script: str, destroy: Callable[[Run], list[str]] | None = None, boots: bool = True
) -> Peer:
    return Peer(name, "", boots, lambda: None, lambda run: ["sh", "-c", script], destroy)


@pytest.fixture
def assets(tmp_path: Path) -> Assets:
    return Assets(tmp_path)


def test_peers_take_turns(assets: Assets) -> None:
    result = Session()
    session.measure(result, [peer("a", GOOD), peer("b", GOOD)], assets, 2, EVERY_ROW, 20)
    assert [(run.peer, run.run) for run in result.runs] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert result.failures() == []
    assert set(result.runs[0].values) == EVERY_ROW - {"pss_less_guest_mib"}
    assert "BENCH-DONE" in Path(result.runs[0].log).read_text()


def test_only_the_rows_asked_for_are_kept(assets: Assets) -> None:
    result = Session()
    session.measure(result, [peer("a", GOOD)], assets, 1, {"syscall"}, 20)
    assert result.runs[0].values == {"syscall": 2.0}


def test_what_boots_nothing_has_no_boot_rows(assets: Assets) -> None:
    result = Session()
    session.measure(
        result, [peer("a", f"{GUEST_LINES} echo BENCH-DONE", boots=False)], assets, 1, EVERY_ROW, 20
    )
    assert result.runs[0].failure is None
    assert set(result.runs[0].values) == {*(row.name for row in GUEST_ROWS), "whole_run"}


@pytest.mark.parametrize(
    ("script", "limit", "failure"),
    [
        ("echo BENCH kernel_to_init 1 s; sleep 100", 2, "killed: still running after 2 s"),
        (GOOD.replace("echo BENCH syscall 2 us;", ""), 20, "rows missing: syscall"),
        (GOOD.replace("echo BENCH-DONE", "true"), 20, "ended without BENCH-DONE"),
        (f"{GOOD}; exit 4", 20, "ended with exit status 4"),
    ],
)
def test_a_bad_run_is_reported_and_its_guest_destroyed(
    assets: Assets, script: str, limit: float, failure: str
) -> None:
    mark = assets.work / "destroyed"
    bad = peer("a", script, lambda run: ["touch", str(mark)])
    result = Session()
    session.measure(result, [bad, peer("b", GOOD)], assets, 1, EVERY_ROW, limit)
    assert result.runs[0].failure == failure
    assert Path(result.runs[0].log).read_text().startswith("BENCH kernel_to_init")
    assert mark.exists()
    assert [run.peer for run in result.failures()] == ["a"]
    assert "a" not in result.medians()["syscall"]


def test_a_good_run_destroys_nothing(assets: Assets) -> None:
    mark = assets.work / "destroyed"
    session.measure(Session(), [peer("a", GOOD, lambda run: ["touch", str(mark)])], assets, 1, EVERY_ROW, 20)
    assert not mark.exists()


def test_xen_tells_its_version(assets: Assets) -> None:
    result = Session()
    session.measure(result, [peer("x", f"echo '(XEN) Xen version 4.17.7'; {GOOD}")], assets, 1, EVERY_ROW, 20)
    assert result.versions == {"xen-tcg": "Xen 4.17.7"}
