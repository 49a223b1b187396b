"""Builds the C core; everything else is in pyproject.toml."""

from setuptools import setup

setup(cffi_modules=["src/xenion/core/build.py:ffibuilder"])
