"""`python -m benches.boots [N]`: boots the stock kernel N times in a row and counts the boots that fail.

Exit status: 0 every boot was good, 1 some was not or none could be made, 2 wrong usage, 130 interrupted.
"""

import argparse
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benches.assets import FETCH_ERRORS, Assets
from benches.peers import PEERS, XENION, Peer, Run
from benches.rows import BOOT_ROW, DONE, parse
from benches.session import destroy
from benches.watch import Watched, save_log

FOLDER = Path("build/boots")
BOOTS = 100
LIMIT_S = 120.0
# Xenion ends a domain that went wrong with a report, and says where that is.
_REPORT = re.compile(r"\breport\b[^/\n]{0,80}(/\S+)", re.IGNORECASE)


@dataclass(frozen=True)
class Boot:
    """How one boot went: seconds to init if it got there, what was wrong, and the file that tells more."""

    number: int
    to_init: float | None
    failure: str | None
    report: str


def judge(number: int, console: str, failure: str | None, log: str) -> Boot:
    """What a console, and the way its run ended, say about a boot; a domain's report goes before the log."""
    to_init = parse(console).get(BOOT_ROW.name)
    if failure is None and to_init is None:
        failure = "ended before its init started"
    if failure is None and DONE not in console:
        failure = f"ended without {DONE}"
    reports = _REPORT.findall(console)
    return Boot(number, to_init, failure, reports[-1].rstrip(".,;:)'\"") if reports else log)


def boot_once(peer: Peer, assets: Assets, number: int, limit: float) -> Boot:
    """Boot once; the console of a boot that went well is not kept."""
    run = Run(assets, FOLDER.resolve(), f"boot-{number}", "boot")
    with Watched(peer.command(run), limit) as watched:
        watched.wait_end()
    log = run.folder / f"{run.name}.log"
    boot = judge(number, watched.text, watched.failure, str(log))
    if boot.failure is None:
        log.unlink(missing_ok=True)
    else:
        save_log(watched, log)
        destroy(peer, run)
    return boot


def soak(count: int, once: Callable[[int], Boot], tell: Callable[[str], None]) -> list[Boot]:
    """Boot `count` times, telling of each failure at once and of the sum at the end; the failures."""
    boots = []
    for number in range(1, count + 1):
        boot = once(number)
        boots.append(boot)
        if boot.failure is not None:
            tell(f"boot {number} of {count} FAILED: {boot.failure}; report: {boot.report}")
        elif number % 10 == 0:
            tell(f"boot {number} of {count}: {boot.to_init:g} s to init")
    failures = [boot for boot in boots if boot.failure is not None]
    times = sorted(boot.to_init for boot in boots if boot.failure is None and boot.to_init is not None)
    middle = (
        f"; seconds to init: {times[0]:g} to {times[-1]:g}, median {times[len(times) // 2]:g}"
        if times
        else ""
    )
    tell(f"{count} boots, {len(failures)} failed{middle}")
    return failures


def _tell(line: str) -> None:
    print(line, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Make the boots that are asked for."""
    options = _parser().parse_args(arguments)
    peer = next(peer for peer in PEERS if peer.name == options.peer)
    command = peer.missing()
    if command is not None:
        print(f"boots: {peer.name} is not here: install it with `{command}`", file=sys.stderr)
        return 1
    try:
        assets = Assets(FOLDER, options.files)
        failures = soak(options.count, lambda number: boot_once(peer, assets, number, options.limit), _tell)
    except FETCH_ERRORS as error:
        print(f"boots: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benches.boots", description=__doc__)
    names = [peer.name for peer in PEERS if peer.boots]
    parser.add_argument(
        "count", nargs="?", type=int, default=BOOTS, help="boots in a row (default %(default)s)"
    )
    parser.add_argument("--peer", choices=names, default=XENION.name, help="what boots (default %(default)s)")
    parser.add_argument(
        "--files", type=Path, help="a folder with vmlinuz-cloud, vmlinuz, xen.elf and busybox"
    )
    parser.add_argument(
        "--limit", type=float, default=LIMIT_S, help="seconds after which a boot is killed (%(default)g)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
