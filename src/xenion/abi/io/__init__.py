"""Xen's split-driver protocols: the headers of ``xen/include/public/io``."""
