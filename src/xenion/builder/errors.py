"""Errors that more than one module of the builder raises; each message is one sentence for people."""


class KernelImageError(Exception):
    """A kernel image cannot become a 64-bit PV domain, whatever the domain's size."""


class DomainBuildError(Exception):
    """This domain, ramdisk or command line does not suit a kernel that is fine in itself."""
