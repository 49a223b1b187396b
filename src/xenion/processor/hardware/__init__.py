"""The hardware processor: guests run natively on /dev/kvm, kernel and applications in ring 3."""

import os
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from xenion.core import ffi, lib
from xenion.processor import KVM, Callbacks, CpuidLeaf, Features, ProcessorError, Registers
from xenion.processor.compiled import ANY_SUBLEAF, forget, leaf_rows, read_registers, register
from xenion.processor.hardware.cpuid import STATES, policy, xcr0_of

MODULES = Path("/sys/module")
LEAVES_MOST = 256
HOLE_SLOT = 257
"""Software KVMs cannot show ring 3 anything in Xen's first slot."""


@cache
def _device() -> int:
    """One descriptor for the process, opened before its rights are restricted."""
    try:
        return os.open(KVM, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise ProcessorError(
            f"the hardware processor cannot be used: {KVM}: {error.strerror}; "
            "give this user access to it, or use the software processor"
        ) from error


@cache
def is_software_kvm() -> bool:
    """A KVM without hardware of its own, which runs ring 3 as it is and emulates ring 0."""
    return (MODULES / "kvm_pvm").is_dir()


@cache
def _follows() -> int:
    """How KVM is told of changed page tables; both ways where the host does not say which kind of paging it has."""
    for module, parameter in (("kvm_intel", "ept"), ("kvm_amd", "npt")):
        setting = MODULES / module / "parameters" / parameter
        if setting.is_file():
            nested = setting.read_text().strip() in ("Y", "1")
            return int(lib.FOLLOWS_FLUSH if nested else lib.FOLLOWS_WRITES)
    if is_software_kvm():
        return int(lib.FOLLOWS_WRITES)
    return int(lib.FOLLOWS_FLUSH | lib.FOLLOWS_WRITES)


@cache
def _leaves() -> tuple[CpuidLeaf, ...]:
    """Of a KVM that intercepts `cpuid`, what it supports; else what applications will see anyway."""
    rows = ffi.new("struct cpuid_leaf[]", LEAVES_MOST)
    if is_software_kvm():
        count = lib.hardware_own_cpuid(rows, LEAVES_MOST)
    else:
        count = lib.hardware_host_cpuid(_device(), rows, LEAVES_MOST)
    if count < 0:
        raise ProcessorError(f"the hardware processor cannot be used: {KVM} does not say what it supports")
    host = (
        CpuidLeaf(r.leaf, None if r.subleaf == ANY_SUBLEAF else r.subleaf, r.eax, r.ebx, r.ecx, r.edx)
        for r in rows[0:count]
    )
    return policy(host, lib.hardware_own_xcr0() if is_software_kvm() else STATES)


def _check(error: int, what: str) -> None:
    if error:
        raise ProcessorError(f"KVM {what} ({os.strerror(error)})")


def _requests() -> list[int]:
    room = 64
    requests = ffi.new("uint64_t[]", room)
    return list(ffi.unpack(requests, lib.hardware_requests(requests, room)))


class HardwareProcessor:
    """One KVM virtual machine for one domain."""

    def __init__(self) -> None:
        _device()
        self.features = Features(
            name="hardware", cpuid=_leaves(), max_vcpus=1, ring_3_kernel=True, hole_slot=HOLE_SLOT,
            own_tsc=not is_software_kvm(), ioctls=_requests(),
        )  # fmt: skip
        self._machine: Any = ffi.NULL
        self._state: Any = ffi.NULL

    def attach(self, state: Any, notify_fd: int, callbacks: Callbacks) -> None:
        self._state = state
        trouble = ffi.new("struct hardware_trouble *")
        self._machine = lib.hardware_create(
            state, _device(), notify_fd, _follows(), register(state, callbacks), trouble
        )
        if not self._machine:
            forget(state)
            raise ProcessorError(
                f"the hardware processor cannot be used: {ffi.string(trouble.text).decode()}"
            )

    def set_cpuid(self, leaves: Sequence[CpuidLeaf]) -> None:
        error = lib.hardware_set_cpuid(self._machine, leaf_rows(leaves), len(leaves))
        if error:
            raise ProcessorError(
                f"the hardware processor cannot be used: KVM refuses what CPUID is to say ({os.strerror(error)})"
            )

    def start(self, rip: int, rsp: int, rsi: int) -> None:
        states = 0 if is_software_kvm() else xcr0_of(self.features.cpuid)  # there, the host's are on
        why = lib.hardware_start(self._machine, rip, rsp, rsi, states)
        if why:
            raise ProcessorError(
                f"the hardware processor cannot start the domain: {ffi.string(why).decode()}"
            )

    def run(self) -> None:
        why = lib.hardware_run(self._machine)
        if why:
            raise ProcessorError(f"the hardware processor cannot go on: {ffi.string(why).decode()}")

    def registers(self, vcpu: int) -> Registers:
        flags = lib.hardware_flags(self._machine)
        return read_registers(self._state.vcpus[vcpu], flags, partial(lib.hardware_segments, self._machine))

    def read_fpu(self, vcpu: int) -> bytes:
        image = ffi.new("uint8_t[]", lib.XSAVE_BYTES)
        _check(lib.hardware_read_fpu(self._machine, image), "does not tell a virtual CPU's extended states")
        return bytes(ffi.buffer(image))

    def write_fpu(self, vcpu: int, image: bytes) -> None:
        if len(image) != lib.XSAVE_BYTES:
            raise ValueError("no XSAVE image")
        _check(lib.hardware_write_fpu(self._machine, image), "refuses a virtual CPU's extended states")

    def tsc_changed(self) -> None:
        lib.hardware_tsc_changed(self._machine)

    def read_xcr0(self, vcpu: int) -> int:
        if is_software_kvm():
            return xcr0_of(self.features.cpuid)
        value = ffi.new("uint64_t *")
        _check(lib.hardware_read_xcr0(self._machine, value), "does not tell which extended states are on")
        return int(value[0])

    def write_xcr0(self, value: int) -> bool:
        known = xcr0_of(self.features.cpuid)
        if value & ~known or not value & 1:
            return False
        return is_software_kvm() or not lib.hardware_set_xcr0(self._machine, value)

    def counts(self) -> list[int]:
        """Exits by cause so far, in the order of EXIT_* in hardware.h."""
        counts = ffi.new("uint64_t[]", lib.EXIT_CAUSES)
        lib.hardware_counts(self._machine, counts)
        return list(ffi.unpack(counts, lib.EXIT_CAUSES))

    def tsc(self) -> int:
        return int(lib.hardware_tsc())

    def close(self) -> None:
        if self._machine:
            forget(self._state)
            lib.hardware_destroy(self._machine)
            self._machine = ffi.NULL
