"""xm version: the versions of Xenion and of the interface that guests see."""

import argparse
import platform
from collections.abc import Sequence

SUMMARY = "show the versions of Xenion and of the Xen interface it offers"


def run(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="xm version", description=SUMMARY)
    parser.add_argument("--json", action="store_true", help="for programs")
    args = parser.parse_args(argv)
    facts = _facts()
    if args.json:
        import json

        print(json.dumps(facts))
    else:
        for name, value in facts.items():
            print(f"{name:<10} {value}")
    return 0


def _facts() -> dict[str, str]:
    return {
        "xenion": _version("xenion"),
        "xen_abi": "4.17",
        "unicorn": _version("unicorn"),
        "python": platform.python_version(),
        "host": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
