"""`python -m xenion.images`: fetches kernels, builds initramfs files; paths to stdout, progress to stderr."""

import argparse
import sys
from pathlib import Path

from xenion.images import cache, debian, initramfs
from xenion.images.apt import AptError
from xenion.images.cache import CacheError
from xenion.images.debian import ImageError
from xenion.images.initramfs import InitramfsError


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; the exit status: 0 done, 1 failed with a line on stderr, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "initramfs":
            _initramfs(options.out, options.init, options.add, options.refresh)
        elif options.command == "busybox":
            print(debian.busybox(refresh=options.refresh, say=_say))
        else:
            for package in options.package:
                print(debian.kernel(package, refresh=options.refresh, say=_say).vmlinuz)
    except (AptError, CacheError, ImageError, InitramfsError, OSError) as error:
        print(f"xenion.images: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _initramfs(out: Path, init: Path, added: list[tuple[Path, str]], refresh: bool) -> None:
    files: dict[str, bytes | Path] = {"init": init, "bin/busybox": debian.busybox(refresh=refresh, say=_say)}
    for host, guest in added:
        name = guest.lstrip("/")
        if name in files:
            raise InitramfsError(f"Two files are to be {guest!r} in the guest.")
        files[name] = host
    cache.write(out, initramfs.build(files))


def _say(line: str) -> None:
    print(f">> {line}", file=sys.stderr, flush=True)


def _added(text: str) -> tuple[Path, str]:
    host, colon, guest = text.rpartition(":")
    if not (host and colon and guest):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:GUEST")
    return Path(host), guest


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m xenion.images", description=__doc__)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--refresh", action="store_true", help="ask Debian for a newer one")
    commands = parser.add_subparsers(dest="command", required=True)
    kernel = commands.add_parser(
        "kernel", parents=[common], help="print the paths of Debian's newest kernels"
    )
    kernel.add_argument("package", nargs="+", help="such as linux-image-cloud-amd64")
    commands.add_parser("busybox", parents=[common], help="print the path of Debian's static busybox")
    out = commands.add_parser("initramfs", parents=[common], help="build an initramfs with busybox in it")
    out.add_argument("out", type=Path, help="the file to write")
    out.add_argument("--init", type=Path, required=True, help="becomes /init")
    out.add_argument(
        "--add", type=_added, action="append", default=[], metavar="HOST:GUEST", help="one more file"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
