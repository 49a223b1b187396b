"""Xen's public interface as data, one module per public header of Xen 4.17, for 64-bit x86.

Structures are little-endian ctypes classes with Xen's field names, their sizes asserted at import. Constants
keep Xen's names; an enumeration drops the prefix that its class name makes redundant (``Errno.EINVAL``,
``Hypercall.mmu_update``). Guest handles and guest pointers are plain 64-bit integers, never host pointers.
This layer imports nothing else of the project.
"""
