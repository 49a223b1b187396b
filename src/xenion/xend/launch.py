"""Starts a domain process: opens all that it will ever read or write, and hands it over."""

import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from xenion.api.addresses import bind
from xenion.api.errors import ApiError
from xenion.api.folders import Folders
from xenion.domain.devices import DeviceOrder
from xenion.domain.order import Descriptors, Order, in_memory
from xenion.xend import helpers, logs, process, record
from xenion.xend.boot_files import BootFiles
from xenion.xend.record import Record
from xenion.xend.xenstored import Connections


def spawn(
    where: Folders,
    made: Record,
    boot: BootFiles,
    devices: Sequence[DeviceOrder],
    store: Connections,
    *,
    paused: bool,
    saved: int = -1,
) -> tuple[Path, "subprocess.Popen[bytes]"]:
    """The domain's folder and its process, which builds the domain from now on. ApiError: nothing is left of it.

    The descriptors of boot files, devices, store and what was `saved` stay the caller's to close.
    """
    with ExitStack() as opened:
        try:
            folder = record.unfinished(where.domains, made.uuid)
            with _discarded_on_failure(where, made):
                made.write(folder)
                fds, said = _open_all(where, made, folder, boot, store, saved, opened)
                order = Order(
                    made.config, made.domid, made.uuid, paused, fds, tuple(devices), bool(made.arriving)
                )
                document = in_memory(order.to_json())
                opened.callback(os.close, document)
                folder = record.finish(folder)
                child = _run(document, made, order, said)
        except OSError as error:
            at = f" ({error.filename})" if error.filename else ""
            raise ApiError("failed", f"{made.name} cannot be started: {error.strerror}{at}") from error
    return folder, child


def _open_all(
    where: Folders,
    made: Record,
    folder: Path,
    boot: BootFiles,
    store: Connections,
    saved: int,
    opened: ExitStack,
) -> tuple[Descriptors, int]:
    """What the process gets, and its standard error; `opened` closes all of it here. ApiError, OSError."""
    files = logs.open_all(where.logs(made.logs), goes_on=saved >= 0)
    for fd in files.descriptors():
        opened.callback(os.close, fd)
    lock = record.lock(folder)
    if lock is None:
        raise ApiError("failed", f"{folder}: somebody holds the lock of a domain that does not exist yet")
    opened.callback(os.close, lock)
    control = opened.enter_context(bind(folder / record.CONTROL, socket.SOCK_SEQPACKET))
    console = opened.enter_context(bind(folder / record.CONSOLE))
    journal = os.open(folder / record.JOURNAL, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    opened.callback(os.close, journal)
    kernel, *ramdisk = boot.fds
    fds = Descriptors(
        control=control.fileno(),
        console=console.fileno(),
        journal=journal,
        log=files.console,
        report=files.report,
        core=files.core,
        kernel=kernel,
        ramdisk=ramdisk[0] if ramdisk else -1,
        lock=lock,
        store_guest=store[0].fileno(),
        store_back_ends=store[1].fileno(),
        saved=saved,
    )
    return fds, files.process


def _run(document: int, made: Record, order: Order, said: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        process.command(document, made.uuid),
        pass_fds=(document, *order.numbers()),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=said,
        start_new_session=True,
        env=helpers.environment(),
    )


@contextmanager
def _discarded_on_failure(where: Folders, made: Record) -> Iterator[None]:
    try:
        yield
    except (ApiError, OSError):
        record.discard(where.domains / made.uuid)
        logs.tidy(where.logs(made.logs))
        raise
