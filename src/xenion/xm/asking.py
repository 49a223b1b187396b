"""Guests are asked to power off, halt or reboot, and waited for: what `xm shutdown` and `xm reboot` have in common."""

from argparse import Namespace
from typing import Any

from xenion.xm.arguments import Parser, domain_argument
from xenion.xm.errors import CancelledError, UsageError


def asking_arguments(parser: Parser) -> None:
    parser.add_argument("-w", "--wait", action="store_true", help="wait until they have")
    parser.add_argument("-a", "--all", action="store_true", help="all guests")
    domain_argument(parser, "*")


def ask(mode: str, args: Namespace) -> int:
    """The exit status. ctrl-C stops the waiting only: the guests have been asked."""
    from xenion.xm.calls import connected, on_each

    if bool(args.domains) == args.all:
        raise UsageError("name the domains, or give --all for all of them: one of the two")
    with connected() as client:
        domains = _guests(client) if args.all else args.domains
        tasks: list[tuple[str, Any]] = []
        status = (
            on_each(domains, lambda name: tasks.append((name, _asked(client, name, mode)))) if domains else 0
        )
        if not args.wait or not tasks:
            return status
        return _wait(client, tasks, mode) or status


def _guests(client: Any) -> list[str]:
    """By UUID, so that a name that changes hands meanwhile does no harm."""
    over = ("defined", "dying", "shutdown", "crashed")
    return [d["uuid"] for d in client.call("list")["domains"] if d["domid"] != 0 and d["state"] not in over]


def _asked(client: Any, name: str, mode: str) -> Any:
    """The task, or None: the domain is over already. A guest may be asked twice."""
    from xenion.xm.calls import change

    return change(client, "shutdown", name, {"mode": mode}, done=_is_over)


def _is_over(domain: Any) -> bool:
    return domain is None or domain["state"] in ("defined", "shutdown", "dying")


def _wait(client: Any, tasks: list[tuple[str, Any]], mode: str) -> int:
    from xenion.xm.calls import on_each

    asked = dict(tasks)
    try:
        return on_each(list(asked), lambda name: _followed(client, name, asked[name], mode))
    except KeyboardInterrupt:
        raise CancelledError("no longer waiting; what was asked of the guests goes on") from None


def _followed(client: Any, name: str, task: Any, mode: str) -> None:
    """A xend that was restarted meanwhile knows the task no more: the guest is asked again."""
    from xenion.api.client import REPETITIONS
    from xenion.api.errors import ApiError
    from xenion.xm.calls import look
    from xenion.xm.progress import follow

    for attempt in range(REPETITIONS):
        if task is None:
            return
        try:
            follow(client, task)
            return
        except ApiError as error:
            if error.code != "no-such-task" or attempt == REPETITIONS - 1:
                raise
        task = None if _is_over(look(client, name)) else _asked(client, name, mode)
