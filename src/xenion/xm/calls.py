"""Calls of xend's API as commands make them: one after the other, and again where the connection broke."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from xenion.api.actions import BY_NAME
from xenion.api.client import REPETITIONS, BrokenError, Client, path_of
from xenion.api.errors import ApiError
from xenion.xm.errors import EXPECTED, XmError
from xenion.xm.output import complain

Done = Callable[[Any], bool]
"""Whether what was asked for is done, as the domain looks now; it gets None for one that is not there."""


@contextmanager
def connected(*, start: bool = True) -> Iterator[Client]:
    """`start`: a xend that does not run is started, when it is called for the first time."""
    client = Client(start=start)
    try:
        yield client
    finally:
        client.close()


def look(client: Client, domain: str) -> Any:
    """The domain, or None."""
    try:
        return client.call("domain", domain=domain)
    except ApiError as error:
        if error.code != "no-such-domain":
            raise
        return None


def change(
    client: Client, action: str, domain: str, body: Mapping[str, Any] | None = None, *, done: Done
) -> Any:
    """The answer, or None: the connection broke, and the domain shows that it is done. Asked again if it is not."""
    return certain(lambda: client.call(action, body, domain=domain), lambda: done(look(client, domain)))


def certain(ask: Callable[[], Any], is_done: Callable[[], bool]) -> Any:
    """What `ask` answers, or None: the connection broke, and it is done. Asked again if it is not."""
    for attempt in range(REPETITIONS):
        try:
            return ask()
        except BrokenError:
            if is_done():
                return None
            if attempt == REPETITIONS - 1:
                raise
    raise AssertionError("no attempt was made")


def replaced(client: Client, action: str, body: Mapping[str, Any], **parameters: str) -> Any:
    """The answer of a PUT, which may be asked for twice. ApiError."""
    known = BY_NAME[action]
    return client.request(known.method, path_of(known, parameters), body, repeat=True)


def on_each(domains: Sequence[str], act: Callable[[str], object]) -> int:
    """The exit status. One domain's failure is raised; of several, each is told and the others are tried too."""
    if len(domains) == 1:
        act(domains[0])
        return 0
    status = 0
    for domain in domains:
        try:
            act(domain)
        except EXPECTED as error:
            complain(str(error))
            status = XmError.status
    return status


def of_running(client: Client, action: str, *, host: bool) -> list[Any]:
    """The answers for all domains that run, with `host` Domain 0 first; one that ends meanwhile is left out."""
    answers = []
    for domain in client.call("list")["domains"]:
        if domain["domid"] is None or (domain["domid"] == 0 and not host):
            continue
        try:
            answers.append(client.call(action, domain=domain["uuid"] if domain["domid"] else "0"))
        except ApiError as error:
            if error.code not in ("no-such-domain", "wrong-state"):
                raise
    return answers
