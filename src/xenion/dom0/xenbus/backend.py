"""What a kind of device is to xenbus: its nodes, and what it does when the front end comes and goes.

No I/O and no states here: xenion.dom0.xenbus.device drives these through XenbusState and keeps the store in step.
Everything runs on Dom0's thread.
"""

from collections.abc import Callable, Mapping
from typing import ClassVar, Protocol


class FrontendError(Exception):
    """What the front end offers cannot be used; the message goes to the back end's `error` node and the log."""


class Backend(Protocol):
    """One device of one boot of a guest. Constructed disconnected; `connect` and `disconnect` alternate."""

    kind: ClassVar[str]
    """As paths have it: vbd, vif."""
    devid: int

    def backend_nodes(self) -> Mapping[str, str]:
        """Written below the back end's path before it waits for a front end: features, and what it is."""

    def frontend_nodes(self) -> Mapping[str, str]:
        """Written below the front end's path before the guest sees it."""

    def connect(self, front: Mapping[str, str]) -> Mapping[str, str]:
        """The front end is ready; `front` holds all of its nodes by their path below its own ("queue-0/ring-ref").

        Returns the nodes to write below the back end's path before it is Connected. FrontendError: nothing is held.
        """

    def disconnect(self, done: Callable[[], None]) -> None:
        """Gives the guest's memory and event channels back, once nothing is in flight; then calls `done`.

        Harmless while disconnected.
        """

    def log_to(self, log: Callable[[str], None]) -> None:
        """Where one-sentence complaints go."""

    changed: Callable[[Mapping[str, str]], None]
    """Set by the device: writes nodes below the back end's path while connected (a disk was resized)."""
