"""The domain builder: a kernel image becomes a 64-bit PV domain that is ready for its first instruction."""

from xenion.builder.boot import BootState, GuestSpace, build
from xenion.builder.elf import Symbols
from xenion.builder.errors import DomainBuildError, KernelImageError
from xenion.builder.kernel import KernelImage, load_kernel, load_readers
from xenion.builder.layout import minimum_mib, minimum_pages
from xenion.builder.needs import check_memory, needed_mib

__all__ = [
    "BootState",
    "DomainBuildError",
    "GuestSpace",
    "KernelImage",
    "KernelImageError",
    "Symbols",
    "build",
    "check_memory",
    "load_kernel",
    "load_readers",
    "minimum_mib",
    "minimum_pages",
    "needed_mib",
]
