"""`python -m benches`: measures Xenion and its peers in turn; a table to stdout, all to build/bench.json.

Exit status: 0 measured, 1 a run failed or nothing could be measured, 2 wrong usage, 130 interrupted.
A missed target changes nothing.
"""

import argparse
import sys
from pathlib import Path

from benches import memory, record, table
from benches.assets import FETCH_ERRORS, Assets
from benches.peers import PEERS, XENION, Peer, Run
from benches.record import Session
from benches.rows import MEMORY_ROW, ROWS
from benches.session import measure

BUILD = Path("build")
LIMIT_S = 300.0


def main(arguments: list[str] | None = None) -> int:
    """Measure what is asked for, and show it."""
    options = _parser().parse_args(arguments)
    session = Session(versions=record.host_versions(), machine=record.this_machine())
    rows = frozenset(options.rows)
    try:
        assets = Assets(BUILD / "bench", options.files)
        peers = _ready([peer for peer in PEERS if peer.name in options.only], session, assets)
        if rows - {MEMORY_ROW.name}:
            measure(session, peers, assets, options.runs, rows, options.limit)
        if XENION in peers and MEMORY_ROW.name in rows:
            memory.measure(session, assets, options.runs, options.limit)
    except KeyboardInterrupt:
        return 130
    if not session.runs:
        print("benches: nothing was measured", file=sys.stderr)
        return 1
    session.versions.update(assets.versions())
    _show(session)
    return 1 if session.failures() else 0


def _ready(peers: list[Peer], session: Session, assets: Assets) -> list[Peer]:
    """The peers that are installed and whose files can be had; the others are skipped, with the reason."""
    for peer in peers:
        command = peer.missing()
        reason = f"install it with `{command}`" if command else _unprepared(peer, assets)
        if reason is not None:
            session.skipped[peer.name] = reason
            print(f"SKIPPED: {peer.name} ({peer.what}): {reason}", file=sys.stderr)
    return [peer for peer in peers if peer.name not in session.skipped]


def _unprepared(peer: Peer, assets: Assets) -> str | None:
    try:
        peer.command(Run(assets, assets.work, f"bench-{peer.name}-0"))
    except FETCH_ERRORS as error:
        return str(error)
    return None


def _show(session: Session) -> None:
    path = BUILD / "bench.json"
    record.save(session, path)
    print(table.render(session))
    for failed in session.failures():
        print(f"FAILED: {failed.peer}, run {failed.run}: {failed.failure}; its console: {failed.log}")
    print(f"Raw values: {path}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benches", description=__doc__)
    names, rows = [peer.name for peer in PEERS], [row.name for row in ROWS]
    parser.add_argument("--runs", type=_count, default=3, help="runs of each peer (default 3)")
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="PEER", help=", ".join(names)
    )
    parser.add_argument("--rows", nargs="+", choices=rows, default=rows, metavar="ROW", help=", ".join(rows))
    parser.add_argument(
        "--files", type=Path, help="a folder with vmlinuz-cloud, vmlinuz, xen.elf and busybox"
    )
    parser.add_argument(
        "--limit", type=float, default=LIMIT_S, help="seconds after which a run is killed (%(default)g)"
    )
    return parser


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("at least one run")
    return count


if __name__ == "__main__":
    sys.exit(main())
