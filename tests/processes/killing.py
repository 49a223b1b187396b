"""Runs a xend in a process of its own, and kills it (-9) before its n-th step of a scenario."""

import asyncio
import os
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.unit.xend.kit import World

Scenario = Callable[[World], Awaitable[None]]
STEPS = {
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.truncate",
    "socket.bind",
    "subprocess.Popen",
    "os.posix_spawn",
}
"""Python's audit events of what changes something outside of the process."""
OTHER = 70


class Killer:
    """`arm` in the process that is to die."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def arm(self) -> None:
        sys.addaudithook(self._on_event)
        for module, name in ((os, "write"), (os, "pwrite"), (socket, "send_fds")):
            setattr(module, name, self._counted(getattr(module, name)))

    def _on_event(self, event: str, args: tuple[Any, ...]) -> None:
        if event in STEPS or (event == "open" and args[2] & os.O_CREAT):
            self._step()

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self._step()
            return call(*args, **kwargs)

        return counted

    def _step(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def killed(at: Path, before: Scenario, scenario: Scenario, steps: int) -> bool:
    """Whether it was killed: else the scenario has fewer steps. `before` is done first, whatever happens."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # from Python 3.12 on: others may have threads, but none that holds a lock
        pid = os.fork()
    if pid == 0:
        _die(at, before, scenario, Killer(steps))
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL), "the scenario fails by itself"
    return status != 0


def _die(at: Path, before: Scenario, scenario: Scenario, killer: Killer) -> None:
    async def work() -> None:
        async with World(at) as world:
            await before(world)
            killer.arm()
            await scenario(world)
            os._exit(0)

    try:
        asyncio.run(work())
    except BaseException:  # noqa: BLE001  whatever it is, this process must not go on as the test's
        traceback.print_exc()
    os._exit(OTHER)
