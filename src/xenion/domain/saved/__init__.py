"""Domains in files: what a file of `xm save` holds, how it is written and read."""
