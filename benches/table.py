"""The table on the terminal: rows by peers, medians with spread, ratios, a mark where a target is missed."""

from collections.abc import Sequence

from benches.record import Session, spread
from benches.rows import ROWS
from benches.targets import SUBJECT, TARGETS, Verdict, judge, ratio

MISSED = "✗"
NOTHING = "-"
_LEFT_COLUMNS = 2


def render(session: Session) -> str:
    """The whole table with its legend."""
    peers = list(dict.fromkeys(measured.peer for measured in session.runs))
    medians = session.medians()
    verdicts = judge(medians)
    lines = [_header(peers)]
    lines += [_line(session, row.name, row.unit, peers, verdicts) for row in ROWS if row.name in medians]
    return "\n".join([*_aligned(lines), "", *_legend(session, verdicts)])


def _others(peers: Sequence[str]) -> list[str]:
    return [peer for peer in peers if peer != SUBJECT] if SUBJECT in peers else []


def _header(peers: Sequence[str]) -> list[str]:
    return ["", "", *peers, *(f"/{peer}" for peer in _others(peers))]


def _line(session: Session, row: str, unit: str, peers: Sequence[str], verdicts: list[Verdict]) -> list[str]:
    samples, medians = session.samples()[row], session.medians()
    missed = {v.target.against: v.target.at_most for v in verdicts if v.target.row == row and not v.met}
    values, ratios = [], []
    for peer in peers:
        text = _median(medians[row][peer], samples[peer]) if peer in samples else NOTHING
        values.append(text + (_mark(missed.get(None)) if peer == SUBJECT else ""))
    for peer in _others(peers):
        value = ratio(medians, row, peer)
        ratios.append(NOTHING if value is None else f"{value:.2f}{_mark(missed.get(peer))}")
    return [row, unit, *values, *ratios]


def _median(median: float, values: Sequence[float]) -> str:
    number = f"{median:.0f}" if median >= 100 else f"{median:.3g}"
    return number + (f" ±{spread(values):.0%}" if len(values) > 1 else "")


def _mark(limit: float | None) -> str:
    return "" if limit is None else f" {MISSED}>{limit:.3g}"


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(map(_padded, line, widths, range(len(line)))).rstrip() for line in lines]


def _padded(text: str, width: int, column: int) -> str:
    return text.ljust(width) if column < _LEFT_COLUMNS else text.rjust(width)


def _legend(session: Session, verdicts: Sequence[Verdict]) -> list[str]:
    lines = ["Medians; ± is half the distance between the extremes. Less is better."]
    if session.machine:
        cpu, cores, kernel, load = (session.machine[key] for key in ("cpu", "cores", "kernel", "load_1min"))
        lines.append(f"{cpu}, {cores} cores, Linux {kernel}; load when it started: {load:.2f}.")
    if verdicts:
        missed = sum(not verdict.met for verdict in verdicts)
        lines.append(
            f"/peer is {SUBJECT} over the peer; {MISSED} marks a missed target: {missed} missed, "
            f"{len(verdicts) - missed} met, {len(TARGETS) - len(verdicts)} not measured."
        )
    return lines
