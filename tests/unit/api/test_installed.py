"""Versions for people."""

from xenion.api.installed import version_of


def test_versions() -> None:
    assert version_of("pytest").split(".")[0].isdecimal()
    assert version_of("xenion-that-nobody-has") == "not installed"
