"""The command `xend`: runs the daemon, starts, stops and asks for it. See docs/man/xend.8."""

import argparse
import os
import select
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from xenion.api.errors import ApiError, UnreachableError
from xenion.api.folders import Folders, folders

EXIT_FAILURE, EXIT_USAGE, EXIT_NOT_RUNNING = 1, 2, 3
STOP_S = 90.0
IDLE_S = 60.0


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f'xend: {message}; see "{self.prog} -h"\n')


def parser() -> Parser:
    made = Parser(prog="xend", description="the daemon that manages domains; xm starts it as needed")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="be the daemon, in the foreground")
    run.add_argument("--on-demand", action="store_true", help="end after a while without domains and clients")
    run.add_argument(
        "--idle-exit", type=float, default=IDLE_S, metavar="SECONDS", help="how long that is (%(default)g)"
    )
    run.add_argument(
        "--ready-fd", type=int, metavar="FD", help="where to write a line when clients can connect"
    )
    commands.add_parser("start", help="start the daemon in the background, unless it runs")
    commands.add_parser(
        "stop", help="end the daemon; domains go on, unless their on_xend_stop says otherwise"
    )
    commands.add_parser("restart", help="stop, then start")
    status = commands.add_parser("status", help="tell whether the daemon runs (exit status 0) or not (3)")
    status.add_argument("--json", action="store_true", help="for programs")
    return made


def main(words: Sequence[str]) -> int:
    args = parser().parse_args(words)
    try:
        where = folders()
        match args.command:
            case "run":
                return _run(where, args)
            case "start":
                return _start(where)
            case "stop":
                return _stop(where)
            case "restart":
                _stop(where)
                return _start(where)
            case _:
                return _status(where, as_json=args.json)
    except (UnreachableError, ApiError) as error:
        print(f"xend: {error}", file=sys.stderr)
        return EXIT_FAILURE
    except KeyboardInterrupt:
        return 130


def _run(where: Folders, args: argparse.Namespace) -> int:
    """That another one runs is as good for who waits to be told when clients can connect."""
    from xenion.xend.daemon import run

    other = pid_of(where)
    status = run(where, on_demand=args.on_demand, idle_s=args.idle_exit, ready_fd=args.ready_fd)
    if args.ready_fd is None and other is not None and pid_of(where) == other:
        raise UnreachableError(f"another xend runs already (process {other}): `xend stop` ends it")
    return status


def _start(where: Folders) -> int:
    from xenion.api.start import start_xend

    if pid_of(where) is None:
        start_xend(where, stays=True)
    return 0


def pid_of(where: Folders) -> int | None:
    """The process of the xend that holds these folders' lock."""
    import fcntl

    try:
        fd = os.open(where.lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(fd, 32, 0).decode(errors="replace").strip()
        return int(text) if text.isdecimal() else None
    else:
        return None
    finally:
        os.close(fd)


def _stop(where: Folders) -> int:
    pid = pid_of(where)
    if pid is None:
        return 0
    with suppress(ProcessLookupError):
        end = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(end, signal.SIGTERM)
            if not select.select([end], [], [], STOP_S)[0]:
                raise UnreachableError(f"xend (process {pid}) does not end; see {where.state}/xend.log")
        finally:
            os.close(end)
    return 0


def _status(where: Folders, *, as_json: bool) -> int:
    pid = pid_of(where)
    if as_json:
        import json

        print(json.dumps({"running": pid is not None, "pid": pid, "socket": str(where.socket)}))
    else:
        print(f"xend runs (process {pid}), at {where.socket}" if pid is not None else "xend does not run")
    return 0 if pid is not None else EXIT_NOT_RUNNING


def run() -> None:
    sys.exit(main(sys.argv[1:]))
