"""Makes the runs, peers in turn (A B C A B C), so that a drift of the machine meets all of them alike."""

import subprocess
import sys
from collections.abc import Collection

from benches import xen
from benches.assets import Assets
from benches.peers import Peer, Run
from benches.record import Measured, Session
from benches.rows import BOOT_ROW, DONE, FIRST_LINE, GUEST_ROWS, parse
from benches.watch import Watched, save_log

_DESTROY_LIMIT_S = 30


def measure(
    session: Session, peers: Collection[Peer], assets: Assets, runs: int, rows: Collection[str], limit: float
) -> None:
    """Add `runs` runs of each peer to the session, keeping `rows`; one is given up after `limit` seconds."""
    for number in range(runs):
        for peer in peers:
            run = Run(assets, assets.work, f"bench-{peer.name}-{number}")
            measured = one(session, peer, run, number, limit)
            kept = {name: value for name, value in measured.values.items() if name in rows}
            session.runs.append(Measured(peer.name, number, kept, measured.failure, measured.log))
            print(f"{peer.name}, run {number + 1} of {runs}: {measured.failure or 'done'}", file=sys.stderr)


def one(session: Session, peer: Peer, run: Run, number: int, limit: float) -> Measured:
    """One run of one peer, with every row that it gave."""
    with Watched(peer.command(run), limit) as watched:
        first = watched.wait_for(FIRST_LINE)
        watched.wait_end()
    log = save_log(watched, run.folder / f"{run.name}.log")
    values = parse(watched.text)
    # Without a guest the first line is a row of the benchmark: no init was waited for.
    if peer.boots and first is not None:
        values["exec_to_init"] = first
    if watched.ended is not None:
        values["whole_run"] = watched.ended
    failure = watched.failure or _shortfall(peer, watched.text, values)
    if failure is not None:
        destroy(peer, run)
    if (told := xen.version(watched.text)) is not None:
        session.versions["xen-tcg"] = f"Xen {told}"
    return Measured(peer.name, number, values, failure, str(log))


def _shortfall(peer: Peer, console: str, values: Collection[str]) -> str | None:
    expected = [row.name for row in (*GUEST_ROWS, *([BOOT_ROW] if peer.boots else []))]
    absent = [name for name in expected if name not in values]
    if absent:
        return f"rows missing: {' '.join(absent)}"
    return None if DONE in console else f"ended without {DONE}"


def destroy(peer: Peer, run: Run) -> None:
    """End what a given-up run may have left behind."""
    if peer.destroy is None:
        return
    try:
        subprocess.run(peer.destroy(run), capture_output=True, check=False, timeout=_DESTROY_LIMIT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"cannot destroy {run.name}: {error}", file=sys.stderr)
