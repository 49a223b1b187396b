"""Runs one guest in this process, to its end: for tests and tools."""

import threading
import traceback
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from uuid import uuid4

from xenion.config.domain import DomainConfig
from xenion.dom0.console import ConsoleHub
from xenion.dom0.loop import Loop
from xenion.domain.devices import Devices
from xenion.domain.machine import Files, Identity, Machine
from xenion.domain.own_store import own_store
from xenion.domain.report import write_report
from xenion.domain.store import DomainStore
from xenion.processor import Processor
from xenion.processor.choose import open_processor


@dataclass(frozen=True, slots=True)
class GuestOutcome:
    """`reason`: poweroff, reboot, suspend, watchdog, crash or timeout; `report` for the last two."""

    console: str
    reason: str
    report: str | None


def run_guest(
    kernel: bytes | Path,
    *,
    memory_mib: int = 32,
    vcpus: int = 1,
    ramdisk: bytes | None = None,
    cmdline: str = "",
    processor: str | Processor = "software",
    timeout_s: float = 60,
) -> GuestOutcome:
    """A guest that has not stopped after `timeout_s` seconds is stopped. DomainBuildError, KernelImageError."""
    data = kernel if isinstance(kernel, bytes) else kernel.read_bytes()
    config = DomainConfig(
        name="guest", kernel=Path("/guest"), cmdline=cmdline, memory_mib=memory_mib, vcpus=vcpus
    )
    output = bytearray()
    chosen = open_processor(processor) if isinstance(processor, str) else processor
    files = Files(BytesIO(data), BytesIO(ramdisk) if ramdisk else None)
    loop = Loop()
    identity = Identity(1, uuid4())
    store = DomainStore(loop, identity.domid, identity.uuid, lambda text: None)
    server = own_store(loop, store, identity.domid, str(identity.uuid))
    devices = Devices(loop, store.client, identity.domid, {}, lambda text: None)
    try:
        machine = Machine(
            config, identity, files, chosen, loop, ConsoleHub(log=output.extend), store, devices
        )
    except BaseException:
        store.close()
        server.close()
        loop.close()
        raise
    loop.start(lambda: machine.domain.fail(traceback.format_exc()))
    late = threading.Event()

    def expire() -> None:
        late.set()
        machine.domain.fail(f"no end after {timeout_s:g} s")

    watchdog = threading.Timer(timeout_s, expire)
    try:
        machine.start()
        watchdog.start()
        reason = machine.run()
        reason = "timeout" if late.is_set() else reason
        report = (
            write_report(machine.domain, machine.boot_state, "guest", bytes(output))
            if reason in ("crash", "timeout")
            else None
        )
    finally:
        watchdog.cancel()
        machine.close()
        loop.call_and_wait(store.close)
        loop.call_and_wait(server.close)
        loop.stop()
        loop.close()
    return GuestOutcome(output.decode(errors="replace"), reason, report)
