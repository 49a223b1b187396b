"""The software processor: Unicorn, used in the guest's rings 1 and 3 through compiled hooks. Works everywhere."""

import importlib.util
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from xenion.core import ffi, lib
from xenion.processor import Callbacks, CpuidLeaf, Features, ProcessorError, Registers
from xenion.processor.compiled import forget, leaf_rows, read_registers, register
from xenion.processor.software.cpuid import LEAVES

SUPPORTED = "2.1.4"
TRANSLATION_BUFFER_MIB = 256
MAX_VCPUS = 64


class UnknownBuildError(ProcessorError):
    """The installed Unicorn is not the build whose inside this processor knows."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"the software processor cannot use this build of Unicorn: {why}; "
            f"install the published wheel (pip install --force-reinstall unicorn=={SUPPORTED})"
        )


def library_path() -> Path:
    """Unicorn's shared library in its wheel, found without importing its Python binding."""
    spec = importlib.util.find_spec("unicorn")
    for folder in spec.submodule_search_locations or () if spec else ():
        path = Path(folder) / "lib" / "libunicorn.so.2"
        if path.is_file():
            return path
    raise UnknownBuildError("its library is not installed")


@cache
def load() -> None:
    """Opens the library and tries every assumption about its inside, once a process; raises UnknownBuildError."""
    why = lib.engine_load(str(library_path()).encode())
    if not why:
        why = lib.engine_probe()
    if why:
        raise UnknownBuildError(ffi.string(why).decode())


def host_tsc() -> int:
    return int(lib.engine_tsc())


class SoftwareProcessor:
    """One Unicorn instance for one domain."""

    features = Features(name="software", cpuid=LEAVES, max_vcpus=MAX_VCPUS, takes_turns=True)

    def __init__(self) -> None:
        load()
        self._engine: Any = ffi.NULL
        self._state: Any = ffi.NULL
        self._leaves: Any = ffi.NULL

    def attach(self, state: Any, notify_fd: int, callbacks: Callbacks) -> None:
        self._state = state
        self._engine = lib.engine_create(state, notify_fd, TRANSLATION_BUFFER_MIB)
        if not self._engine:
            raise ProcessorError(
                "the software processor cannot start an instance: the host is short of memory"
            )
        lib.engine_set_callbacks(self._engine, register(state, callbacks))
        self.set_cpuid(LEAVES)

    def set_cpuid(self, leaves: Sequence[CpuidLeaf]) -> None:
        self._leaves = leaf_rows(leaves)
        lib.engine_set_cpuid(self._engine, self._leaves, len(leaves))

    def start(self, rip: int, rsp: int, rsi: int) -> None:
        why = lib.engine_start(self._engine, rip, rsp, rsi)
        if why:
            raise ProcessorError(
                f"the software processor cannot start the domain: {ffi.string(why).decode()}"
            )

    def run(self) -> None:
        why = lib.engine_run(self._engine)
        if why:
            raise ProcessorError(f"the software processor cannot go on: {ffi.string(why).decode()}")

    def registers(self, vcpu: int) -> Registers:
        flags = lib.engine_flags(self._engine, vcpu)
        return read_registers(
            self._state.vcpus[vcpu], flags, partial(lib.engine_segments, self._engine, vcpu)
        )

    def read_fpu(self, vcpu: int) -> bytes:
        image = ffi.new("uint8_t[]", lib.FXSAVE_BYTES)
        lib.engine_read_fpu(self._engine, vcpu, image)
        return bytes(ffi.buffer(image))

    def write_fpu(self, vcpu: int, image: bytes) -> None:
        if len(image) != lib.FXSAVE_BYTES:
            raise ValueError("no FXSAVE image")
        lib.engine_write_fpu(self._engine, vcpu, image)

    def tsc_changed(self) -> None:
        lib.engine_tsc_changed(self._engine)

    def read_xcr0(self, vcpu: int) -> int:
        return 0

    def write_xcr0(self, value: int) -> bool:
        return False

    tsc = staticmethod(host_tsc)

    def close(self) -> None:
        if self._engine:
            forget(self._state)
            lib.engine_destroy(self._engine)
            self._engine = ffi.NULL
