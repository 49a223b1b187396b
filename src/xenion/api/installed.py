"""What is installed here."""


def version_of(package: str) -> str:
    """Of a Python package, for people."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
