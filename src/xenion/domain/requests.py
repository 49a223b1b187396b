"""What xend may ask of a domain's process; each is a short method on Dom0's thread."""

import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from xenion.config.domain import CAP_MAX, ConfigError, DomainConfig
from xenion.domain.control import DESCRIPTORS, Handler, Refusal, Request
from xenion.domain.devices import DeviceError, DeviceOrder, close_all
from xenion.domain.machine import Files, Machine, open_files
from xenion.domain.saved.state import Head
from xenion.domain.saves import Moving
from xenion.domain.sizes import SizeError
from xenion.vmm.saved import shown_leaves
from xenion.vmm.vcpu import Vcpu

if TYPE_CHECKING:
    from xenion.domain.process import DomainProcess

SHUTDOWN_MODES = ("poweroff", "reboot", "halt")
HOLDER, CAP = "xend", "cap"
DETACH_SECONDS = 10.0
GUEST_HOLDS = (
    "the guest has not let go of {device} in {seconds:g} seconds: it may be in use there "
    "(it goes when the guest is done with it); --force takes it away"
)
FORCE_WAITS = (
    "what the guest has asked of {device} has not ended in {seconds:g} seconds: the host's side of it does not answer "
    "(it goes when it does, or is given up)"
)
BUILDING = "the domain is being built: try again in a moment"
STOPPED = "the guest has stopped: the domain can only be dumped or destroyed now"


class Requests:
    """The handlers of one process."""

    def __init__(self, process: "DomainProcess") -> None:
        self._process = process
        self._pauses: list[Request] = []

    def handlers(self) -> Mapping[str, Handler]:
        process = self._process
        return {
            "pause": self._pause,
            "unpause": self._unpause,
            "destroy": self._destroy,
            "shutdown": self._shutdown,
            "sysrq": self._sysrq,
            "nmi": self._nmi,
            "processor": self._processor,
            "vcpus": self._vcpus,
            "set-vcpus": self._set_vcpus,
            "cap": self._cap,
            "set-memory": self._set_memory,
            "set-maxmem": self._set_maxmem,
            "rename": self._rename,
            "configure": self._configure,
            "dump": self._dump,
            "cancel-dump": self._cancel_dump,
            "save": self._save,
            "switched": self._switched,
            "finish-save": self._finish_save,
            "cancel-save": self._cancel_save,
            "migrate": self._migrate,
            "echo": self._echo,
            "release": self._release,
            "cancel-migrate": self._cancel_save,
            "arrive": process.arrive,
            "log": _replaces(process.log.replace),
            "report": _replaces(process.report.replace),
            "core": _replaces(process.core.replace),
            "trim": self._trim,
            "store": self._store,
            "devices": self._devices,
            "attach": self._attach,
            "detach": self._detach,
            "configure-device": self._configure_device,
            "reconnect-device": self._reconnect_device,
            "standby-device": self._standby_device,
        }

    def _machine(self) -> Machine:
        """Of a guest that runs; Refusal."""
        machine = self._process.machine
        if machine is None:
            raise Refusal(BUILDING)
        if not self._process.running:
            raise Refusal(STOPPED)
        return machine

    # --- the guest's run

    def _pause(self, request: Request) -> None:
        machine = self._machine()
        if not machine.held_by(HOLDER):
            machine.hold(HOLDER)
            self._process.journal.add("paused")
        self._pauses.append(request)
        self.look()

    def look(self) -> None:
        """Answers who waits for a pause: the guest executes nothing any more, or need not hold still, or has ended."""
        machine = self._process.machine
        runs = machine is not None and self._process.running
        if machine is not None and runs and machine.held_by(HOLDER) and not machine.domain.parked:
            return
        pauses, self._pauses = self._pauses, []
        for request in pauses:
            if runs:
                request.done()
            else:
                request.refuse(STOPPED)

    def _unpause(self, request: Request) -> None:
        machine = self._machine()
        if machine.held_by(HOLDER):
            machine.let_go(HOLDER)
            self._process.journal.add("unpaused")
            self.look()
        request.done()

    def _destroy(self, request: Request) -> None:
        request.done()
        self._process.destroy()

    def _shutdown(self, request: Request) -> None:
        """Through xenstore, as Xen's toolstack does; `listens` tells whether the guest has said that it watches."""
        mode = request.text("mode")
        if mode not in SHUTDOWN_MODES:
            raise Refusal(f"{mode!r} is no way to shut down")
        machine = self._machine()
        if machine.held_by(HOLDER):
            raise Refusal("the domain is paused and cannot hear the request: unpause it first")
        machine.store.write_node("control/shutdown", mode)
        machine.store.read_node(f"control/feature-{mode}", lambda value: request.done(listens=value == b"1"))

    def _sysrq(self, request: Request) -> None:
        key = request.text("key")
        if len(key) != 1 or not key.isascii() or not key.isprintable():
            raise Refusal("a SysRq key is one letter or digit")
        self._machine().store.write_node("control/sysrq", key)
        request.done()

    def _nmi(self, request: Request) -> None:
        vcpu, domain = request.number("vcpu"), self._machine().domain
        try:
            domain.send_nmi(vcpu)
        except ValueError as error:
            raise Refusal(str(error)) from None
        request.done()

    def _processor(self, request: Request) -> None:
        """What the guest has been told of it."""
        domain = self._machine().domain
        request.done(processor=domain.processor.features.name, cpuid=shown_leaves(domain))

    def _vcpus(self, request: Request) -> None:
        """Each one's state and CPU seconds."""
        machine = self._machine()

        def state(vcpu: Vcpu) -> str:
            if not vcpu.state.online:
                return "offline"
            if machine.held_by(HOLDER):
                return "paused"
            return "running" if vcpu.runstate == "offline" else vcpu.runstate  # held, but for a moment

        vcpus = machine.domain.vcpus
        request.done(vcpus=[{"state": state(vcpu), "cpu_seconds": vcpu.seconds} for vcpu in vcpus])

    def _cap(self, request: Request) -> None:
        percent = request.number("percent")
        if not 0 <= percent <= CAP_MAX:
            raise Refusal(f"a cap is from 0 to {CAP_MAX} percent of a CPU")
        self._process.cap.set(percent)
        request.done()

    def _set_vcpus(self, request: Request) -> None:
        with _size_refusals():
            self._machine().sizes.set_vcpus(request.number("vcpus"))
        request.done()

    def _set_memory(self, request: Request) -> None:
        with _size_refusals():
            self._machine().sizes.set_memory(request.number("mib"))
        request.done()

    def _set_maxmem(self, request: Request) -> None:
        with _size_refusals():
            self._machine().sizes.set_most(request.number("mib"))
        request.done()

    # --- what it is

    def _rename(self, request: Request) -> None:
        process = self._process
        try:
            process.config = replace(process.config, name=request.text("name"))
        except ConfigError as error:
            raise Refusal(str(error)) from None
        if process.machine is not None and process.running:
            process.store.rename(process.config.name)
        request.done()

    def _configure(self, request: Request) -> None:
        """Holds from the next boot on; descriptors: the kernel, and the ramdisk if there is one."""
        try:
            config = DomainConfig.from_mapping(request.fields.get("config"))
        except ConfigError as error:
            raise Refusal(str(error)) from None
        kernel, *ramdisk = request.take_fds(most=2)
        files = open_files(kernel, ramdisk[0] if ramdisk else -1)
        self._process.check(config, files, lambda why_not: self._configured(request, config, files, why_not))

    def _configured(self, request: Request, config: DomainConfig, files: Files, why_not: str) -> None:
        if why_not:
            files.close()
            request.refuse(why_not)
        else:
            self._process.configure(config, files)
            request.done()

    # --- the store and devices

    def _store(self, request: Request) -> None:
        """Descriptors: as the guest, as its back ends."""
        guest, back_ends = _sockets(request.take_fds(least=2, most=2))
        self._process.store.connect(guest, back_ends)
        request.done()

    def _devices(self, request: Request) -> None:
        request.done(devices=self._process.devices.describe())

    def _attach(self, request: Request) -> None:
        order = DeviceOrder(
            kind=request.text("kind"),
            devid=request.number("devid"),
            description=request.mapping("description"),
            config=request.mapping("config"),
            fds=request.take_fds(least=0, most=DESCRIPTORS),
        )
        if self._process.saves.busy:
            close_all(order.fds)
            raise Refusal("the domain is being saved: try again when it goes on")
        with _device_refusals():
            self._process.devices.add(order)
        request.done()

    def _detach(self, request: Request) -> None:
        """Answered in time: a guest that uses the device need not let go of it."""
        kind, devid = request.text("kind"), request.number("devid")
        force = bool(request.fields.get("force"))
        why = FORCE_WAITS if force else GUEST_HOLDS

        def still_held() -> None:
            patience.cancel()
            request.refuse(why.format(device=f"{kind} {devid}", seconds=DETACH_SECONDS))

        patience = self._process.loop.later(DETACH_SECONDS, still_held)

        def gone() -> None:
            if patience.action is not None:
                patience.cancel()
                request.done()

        with _device_refusals():
            try:
                self._process.devices.detach(kind, devid, gone, force=force)
            except DeviceError:
                patience.cancel()
                raise

    def _configure_device(self, request: Request) -> None:
        kind, devid = request.text("kind"), request.number("devid")
        changes, fds = request.mapping("changes"), request.take_fds(least=0, most=DESCRIPTORS)
        with _device_refusals():
            told = self._process.devices.configure(kind, devid, changes, fds)
        request.done(**told)

    def _reconnect_device(self, request: Request) -> None:
        kind, devid = request.text("kind"), request.number("devid")
        description, fds = request.mapping("description"), request.take_fds(most=DESCRIPTORS)
        with _device_refusals():
            self._process.devices.reconnect(kind, devid, description, fds)
        request.done()

    def _standby_device(self, request: Request) -> None:
        kind, devid = request.text("kind"), request.number("devid")
        description, fds = request.mapping("description"), request.take_fds(most=DESCRIPTORS)
        with _device_refusals():
            self._process.devices.standby(kind, devid, description, fds)
        request.done()

    # --- files

    def _dump(self, request: Request) -> None:
        machine = self._process.machine
        if machine is None:
            raise Refusal(BUILDING)
        self._process.dumps.begin(request, machine)

    def _cancel_dump(self, request: Request) -> None:
        self._process.dumps.cancel()
        request.done()

    def _save(self, request: Request) -> None:
        """`ask` the guest to suspend itself; `by`: xend's version; `disks`, `vifs`: what it has of them now. Answered
        when the file is whole, while the guest is held, or with `keep` goes on; with `switch` it stays held until
        `switched`, which may be said as soon as it has told that all is at `rest`."""
        ask, switch = request.fields.get("ask") is True, request.fields.get("switch") is True
        keep = self._process.watch if request.fields.get("keep") is True else None
        self._process.saves.begin(
            request, self._machine(), self._head(request), ask=ask, keep=keep, switch=switch
        )

    def _switched(self, request: Request) -> None:
        """What is on its disks now stays as it is: it goes on with what stands by, in the same place or elsewhere. Not
        `switched`: it does not wait for that any more."""
        with _device_refusals():
            switched = self._process.saves.switch()
        request.done(switched=switched)

    def _migrate(self, request: Request) -> None:
        """As `_save`, to another host, `live`: most of the memory while the guest runs; `worst_ms`: it is not to stand
        still for longer, or None."""
        worst = request.fields.get("worst_ms")
        watch = self._process.watch if request.fields.get("live") is True else None
        moving = Moving(watch, worst / 1000 if isinstance(worst, int | float) else None)
        ask = request.fields.get("ask") is True
        self._process.saves.begin(request, self._machine(), self._head(request), ask=ask, moving=moving)

    def _echo(self, request: Request) -> None:
        """Of the migration that is under way, if there still is one."""
        self._process.saves.echo(request.number("number"))
        request.done()

    def _release(self, request: Request) -> None:
        """Its disks are for another host now."""
        with _device_refusals():
            self._process.saves.release()
        request.done()

    def _head(self, request: Request) -> Head:
        process, machine = self._process, self._machine()
        now = {"name": process.config.name, **{kind: request.list_of(kind) for kind in ("disks", "vifs")}}
        return Head(
            config={**machine.config.to_mapping(), **now},
            uuid=str(process.identity.uuid),
            domid=process.identity.domid,
            known_as=machine.domain.domid,
            name=process.config.name,
            processor=machine.domain.processor.features.name,
            saved_at=time.time(),
            xenion=request.text("by"),
            cpuid=shown_leaves(machine.domain),
        )

    def _finish_save(self, request: Request) -> None:
        """The file has its name, or the domain is on another host: it ends, or goes on with `keep`. Not `saved`: it has
        gone on before."""
        keep, reason = request.fields.get("keep") is True, request.fields.get("reason")
        with _device_refusals():
            saved = self._process.saves.finish(keep=keep)
        request.done(saved=saved)
        if saved and not keep:
            self._process.destroy("migrated" if reason == "migrated" else "saved")

    def _cancel_save(self, request: Request) -> None:
        self._process.saves.cancel()
        request.done()

    def _trim(self, request: Request) -> None:
        request.done(trimmed=self._process.journal.trim(request.number("through")))


@contextmanager
def _size_refusals() -> Iterator[None]:
    try:
        yield
    except SizeError as error:
        raise Refusal(str(error)) from None


@contextmanager
def _device_refusals() -> Iterator[None]:
    try:
        yield
    except DeviceError as error:
        raise Refusal(str(error)) from None


def _sockets(fds: Sequence[int]) -> list[socket.socket]:
    """Around descriptors that are ours; Refusal, and they are closed."""
    made: list[socket.socket] = []
    try:
        for fd in fds:
            made.append(socket.socket(fileno=fd))
    except OSError:
        for each in made:
            each.detach()
        close_all(fds)
        raise Refusal("what came with the request are no sockets") from None
    return made


def _replaces(take: Callable[[int], None]) -> Handler:
    def handler(request: Request) -> None:
        (fd,) = request.take_fds()
        take(fd)
        request.done()

    return handler
