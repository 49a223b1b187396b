"""qemu-img, which makes images and puts what is in one into another, within limits."""

import asyncio
import resource
from contextlib import suppress
from pathlib import Path

from xenion.config.disk import Disk
from xenion.xend import helpers
from xenion.xend.disks.chain import Image
from xenion.xend.disks.errors import cannot

PROGRAM = "qemu-img"
MAKING_S = 30.0
MAKING_BYTES = 4 << 30
"""Of address space: it starts up to 64 threads with stacks, and has a cache for each image of a chain."""
ENVIRONMENT = {"MALLOC_ARENA_MAX": "2"}
"""Otherwise each thread takes 64 MiB of address space or more when it allocates anything."""


async def make_over(disk: Disk, path: Path, base: Image, backing: str) -> None:
    """A new qcow2 image over `base`, which it names `backing`; there is none at `path` before. ApiError."""
    # -u: qemu-img does not open the base, which was looked at here
    await run(
        disk,
        *("create", "-q", "-u", "-f", "qcow2", "-F", base.format.value, "-b", backing),
        *(str(path), str(base.size_bytes)),
    )


async def run(disk: Disk, *words: str, patient: bool = False) -> None:
    """`patient`: it may take as long as it likes; one that is cancelled has ended. ApiError."""
    made = await asyncio.create_subprocess_exec(
        helpers.find(PROGRAM),
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**helpers.environment(), **ENVIRONMENT},
    )
    with suppress(ProcessLookupError):  # it has ended already
        resource.prlimit(made.pid, resource.RLIMIT_AS, (MAKING_BYTES, MAKING_BYTES))
    try:
        _, said = await asyncio.wait_for(made.communicate(), None if patient else MAKING_S)
    except TimeoutError:
        raise cannot(
            disk, f"{PROGRAM} does not end: is {words[-2]} on a disk that answers?", "failed"
        ) from None
    finally:
        if made.returncode is None:
            made.kill()
            await made.wait()
    if made.returncode:
        why = said.decode(errors="replace").strip().splitlines()
        raise cannot(disk, why[-1] if why else f"{PROGRAM} ended with status {made.returncode}", "failed")
