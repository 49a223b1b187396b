"""How much memory a guest needs to come up, as far as that can be told before it runs.

What the builder places is exact (`minimum_mib`). A Linux kernel then unpacks its ramdisk and needs a little for itself
before it frees its own initial data: Debian's 6.1 cloud kernel, placed in 66 MiB with a ramdisk of 2.6 MiB unpacked,
panics with 71 MiB and boots with 72. A domain below that is refused rather than left to die of it.
"""

import zlib

from xenion.builder.errors import DomainBuildError
from xenion.builder.kernel import KernelImage
from xenion.builder.layout import PAGES_PER_MIB, minimum_mib

LINUX_EARLY_MIB = 3
GZIP_MAGIC = b"\x1f\x8b"
MIB = 1 << 20


def _gzip_member(data: bytes) -> tuple[int, bytes]:
    """(size unpacked, what follows it); DomainBuildError when the member is cut or damaged."""
    stream, size, rest = zlib.decompressobj(wbits=31), 0, data
    try:
        while not stream.eof:
            part = stream.decompress(rest, MIB)
            rest = stream.unconsumed_tail
            size += len(part)
            if not part and not rest and not stream.eof:
                raise DomainBuildError(
                    "the ramdisk is cut short: its gzip data ends too early; get or make it again"
                )
    except zlib.error as error:
        raise DomainBuildError(
            f"the ramdisk's gzip data is damaged ({error}); get or make it again"
        ) from error
    return size, stream.unused_data


def unpacked_size(ramdisk: bytes | None) -> int:
    """Bytes of a ramdisk once unpacked: gzip members, with zeroes between them as Linux allows, are measured; the rest
    counts as it is. DomainBuildError when gzip data is cut or damaged."""
    rest, size = ramdisk or b"", 0
    while rest[:2] == GZIP_MAGIC:
        member, rest = _gzip_member(rest)
        size += member
        rest = rest.lstrip(b"\0")
    return size + len(rest)


def needed_mib(image: KernelImage, ramdisk: bytes | None) -> int:
    """MiB below which the guest cannot come up."""
    placed = minimum_mib(image, len(ramdisk or b""))
    if not image.notes.guest_os.startswith("linux"):
        return placed
    return placed + LINUX_EARLY_MIB + -(-unpacked_size(ramdisk) // MIB)


def check_memory(image: KernelImage, ramdisk: bytes | None, nr_pages: int) -> None:
    """DomainBuildError, with what the guest needs."""
    needed = needed_mib(image, ramdisk)
    if nr_pages < needed * PAGES_PER_MIB:
        raise DomainBuildError(
            f"the domain has {nr_pages / PAGES_PER_MIB:g} MiB of memory, but this kernel with its ramdisk needs at "
            f"least {needed} MiB; raise memory"
        )
