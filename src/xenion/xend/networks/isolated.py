"""Networks among domains alone: a switch, one for each run folder of xend's, which outlives it and ends when idle."""

import errno
import os
import socket
import sys
from contextlib import closing
from pathlib import Path

from xenion.api.addresses import address_of
from xenion.config.vif import Vif
from xenion.dom0.net.stream_wire import widen
from xenion.dom0.net.switch_client import SwitchClient, SwitchError, SwitchGoneError, listen
from xenion.xend import helpers
from xenion.xend.networks.place import Plugged, VifPlace, cannot, description

PROGRAM = (sys.executable, "-m", "xenion.dom0.net.switch")
SOCKET, LOG = "switch.sock", "switch.log"
MTU = 1500
ATTEMPTS = 3


def plug(vif: Vif, place: VifPlace, run: Path) -> Plugged:
    """Blocks for seconds at most; one at a time. `run`: xend's run folder. ApiError.

    The port is unplugged when the domain closes its end.
    """
    ours, theirs = socket.socketpair()
    with closing(theirs):
        made = Plugged({}, [ours.detach()])
        try:
            widen(theirs)
            _plug(vif, place, run, theirs.fileno())
            made.description = description(vif, place, "switch", MTU, kind="stream")
        except BaseException:
            made.close()
            raise
    return made


def _plug(vif: Vif, place: VifPlace, run: Path, end: int) -> None:
    """ApiError."""
    try:
        with address_of(run / SOCKET) as address:
            _plug_in(vif, place, run, Path(address), end)
    except SwitchError as error:
        raise cannot(place, f"isolated network {vif.network}: {error}", "failed") from error
    except OSError as error:
        raise cannot(
            place, f"isolated network {vif.network}: {run / SOCKET}: {error.strerror}", "failed"
        ) from error


def _plug_in(vif: Vif, place: VifPlace, run: Path, path: Path, end: int) -> None:
    """A switch that was idle may end at any moment, and then there is another one. SwitchError, OSError, ApiError."""
    for attempt in range(ATTEMPTS):
        try:
            with SwitchClient(path) as switch:
                switch.plug(vif.network, f"vif{place.domid}.{place.devid}", end)
            return
        except SwitchGoneError:
            if attempt == ATTEMPTS - 1:
                raise
        _start(run, path)


def _start(run: Path, path: Path) -> None:
    """It listens before it is there, so nobody waits for it. OSError, ApiError."""
    try:
        listener = listen(path)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return  # somebody else was faster
        raise
    said = os.open(run / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        helpers.start(
            "the switch of isolated networks",
            [*PROGRAM, "--control", str(listener.fileno())],
            works_for=run / "switch",
            said=said,
            pass_fds=(listener.fileno(),),
        )
    finally:
        os.close(said)
        listener.close()
