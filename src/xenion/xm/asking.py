"""Guests are asked to power off, halt or reboot, and waited for: what `xm shutdown` and `xm reboot` have in common."""

from argparse import Namespace
from typing import Any

from xenion.xm.arguments import Parser, domain_argument
from xenion.xm.errors import CancelledError, UsageError, XmError

SUCCEEDED = "rename-restart"
"""What was done at the end: another domain goes on in its place."""
WITHOUT_A_WORD = {"poweroff": "it powered off", "reboot": 'its on_reboot is "destroy"'}


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
        guests = _guests(client) if args.all else dict.fromkeys(args.domains)
        tasks: dict[str, Any] = {}

        def place(word: str) -> None:
            if args.wait and guests[word] is None:
                guests[word] = client.call("domain", domain=word)  # it may not be there any more afterwards
            tasks[word] = _asked(client, word, mode)

        status = on_each(list(guests), place) if guests else 0
        if not args.wait or not tasks:
            return status
        return _wait(client, guests, tasks, mode) or status


def _guests(client: Any) -> dict[str, Any]:
    """By UUID, so that a name that changes hands meanwhile does no harm."""
    over = ("defined", "suspended", "dying", "shutdown", "crashed")
    domains = client.call("list")["domains"]
    return {d["uuid"]: d for d in domains if d["domid"] != 0 and d["state"] not in over}


def _asked(client: Any, name: str, mode: str) -> Any:
    """The task, or None: the domain is over already. A guest may be asked twice."""
    from xenion.xm.calls import change

    return change(client, "shutdown", name, {"mode": mode}, done=_is_over)


def _is_over(domain: Any) -> bool:
    return domain is None or domain["state"] in ("defined", "suspended", "shutdown", "dying")


def _wait(client: Any, guests: dict[str, Any], tasks: dict[str, Any], mode: str) -> int:
    from xenion.xm.calls import on_each
    from xenion.xm.outcome import WELL

    def wait(word: str) -> None:
        result = _followed(client, word, tasks[word], mode)
        if result.get("over") and (mode == "reboot" or result["reason"] not in WELL):
            _check(client, guests[word], mode)

    try:
        return on_each(list(tasks), wait)
    except KeyboardInterrupt:
        raise CancelledError("no longer waiting; what was asked of the guests goes on") from None


def _followed(client: Any, name: str, task: Any, mode: str) -> Any:
    """The task's result. A xend that was restarted meanwhile knows the task no more: the guest is asked again."""
    from xenion.api.client import REPETITIONS
    from xenion.api.errors import ApiError
    from xenion.xm.calls import look
    from xenion.xm.progress import follow

    for attempt in range(REPETITIONS):
        if task is None:
            break
        try:
            return follow(client, task)["result"]
        except ApiError as error:
            if error.code != "no-such-task" or attempt == REPETITIONS - 1:
                raise
        task = None if _is_over(look(client, name)) else _asked(client, name, mode)
    return {"over": True, "reason": ""}


def _check(client: Any, domain: Any, mode: str) -> None:
    """XmError: the domain is over, and not as it was asked to be."""
    from xenion.xm.outcome import WELL, await_outcome, sentence_of

    outcome = await_outcome(client, domain["uuid"])
    reason = outcome["reason"]
    if reason in WELL and (mode != "reboot" or outcome["action"] == SUCCEEDED):
        return
    sentence = sentence_of(outcome, domain)
    why = "; ".join(filter(None, [*outcome["notes"], sentence])) or WITHOUT_A_WORD[reason]
    raise XmError(f"{domain['name']}{' did not come back' if mode == 'reboot' else ''}: {why}")
