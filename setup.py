"""Builds the C core; everything else is in pyproject.toml."""

from setuptools import setup

setup(
    cffi_modules=["src/xenion/core/build.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},  # one wheel for every Python from 3.11 on
)
