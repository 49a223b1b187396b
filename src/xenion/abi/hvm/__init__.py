"""The HVM interface's numbers: headers of ``xen/include/public/hvm``."""
