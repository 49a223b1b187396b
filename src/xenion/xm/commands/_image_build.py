"""xm image build: make a bootable Debian root disk."""

import argparse
import getpass
import os
import sys
from collections.abc import Sequence
from typing import Any

from xenion.images.build import Order, build
from xenion.images.personal import Personal, host_name_of, read_keys, usual_keys
from xenion.images.recipe import MIRROR, SECURITY_MIRROR, Kernel, Recipe, packages_of
from xenion.images.size import parse as parse_size
from xenion.images.size import shown
from xenion.images.startfile import PORT
from xenion.images.store import Image
from xenion.xm.arguments import FILE, Parser, command, json_option, parse
from xenion.xm.commands._image_errors import told
from xenion.xm.errors import UsageError
from xenion.xm.output import complain, escaped, print_json
from xenion.xm.progress import ProgressLine
from xenion.xm.progress import shown as progress_shown

SUMMARY = "build a bootable Debian root disk, without root"
EPILOG = """\
The console logs root in without a password; over the network only keys let anybody in.
example: xm image build debian web --size 8G --packages nginx,curl"""


def parser() -> Parser:
    p = command("image build", SUMMARY, EPILOG)
    p.add_argument("system", choices=("debian",), help="what to install")
    p.add_argument("name", metavar="NAME", help="of the image")
    p.add_argument("--size", default="2G", help="of the disk, as 8G or 1536M; it takes what is in it (2G)")
    p.add_argument(
        "--packages", metavar="NAMES", action="append", default=[], help="more packages, as nginx,curl"
    )
    p.add_argument(
        "--ssh-key",
        metavar=FILE,
        action="append",
        help="a public key that may log in as root, or a file of keys; left out, yours in ~/.ssh",
    )
    p.add_argument("--no-ssh-key", action="store_true", help="let nobody in over the network")
    p.add_argument("--hostname", metavar="NAME", help="the guest's own name; the image's if left out")
    p.add_argument("--suite", metavar="NAME", default="bookworm", help="the Debian suite (bookworm)")
    p.add_argument(
        "--kernel",
        choices=[kernel.value for kernel in Kernel],
        default="cloud",
        help="Debian's kernel (cloud)",
    )
    p.add_argument("--cloud-init", action="store_true", help="install cloud-init, which reads a NoCloud disk")
    p.add_argument(
        "--console-login",
        action="store_true",
        help="the console asks for root's password, which is asked for now, or read from standard input",
    )
    p.add_argument("--mirror", metavar="URL", default=MIRROR, help=f"the Debian mirror ({MIRROR})")
    p.add_argument(
        "--security-mirror", metavar="URL", default=SECURITY_MIRROR, help='of security updates; "" for none'
    )
    p.add_argument(
        "--refresh", action="store_true", help="install anew, even if it was done in the last days"
    )
    p.add_argument("--force", action="store_true", help="replace an image of this name")
    json_option(p, "print the image as JSON, for programs")
    return p


def run(argv: Sequence[str]) -> int:
    args = parse(parser(), argv)
    if args.ssh_key and args.no_ssh_key:
        raise UsageError("--ssh-key and --no-ssh-key exclude each other")
    with told():
        order = _order(args)
        with progress_shown() as line:
            image = build(order, report=_Reporter(line, args.name), say=complain)
    if args.json:
        print_json(image.to_mapping())
    else:
        _tell(image, order)
    return 0


def _order(args: argparse.Namespace) -> Order:
    keys: tuple[str, ...] = ()
    if not args.no_ssh_key:
        keys = read_keys(args.ssh_key) if args.ssh_key else usual_keys()
    recipe = Recipe(
        suite=args.suite,
        mirror=args.mirror,
        security_mirror=args.security_mirror,
        kernel=Kernel(args.kernel),
        packages=packages_of(args.packages),
        cloud_init=args.cloud_init,
    )
    hostname = args.hostname or host_name_of(args.name)
    Personal(hostname=hostname, keys=keys)  # a mistake is told before a password is asked for
    size = parse_size(args.size)
    personal = Personal(hostname=hostname, keys=keys, password=_password() if args.console_login else None)
    return Order(
        name=args.name,
        recipe=recipe,
        personal=personal,
        size=size,
        replace=args.force,
        refresh=args.refresh,
    )


def _password() -> str:
    """Typed twice at a terminal, else the first line of standard input."""
    if not (sys.stdin and sys.stdin.isatty()):
        return sys.stdin.readline().rstrip("\n") if sys.stdin else ""
    password = getpass.getpass("Root's password on the console: ")
    if getpass.getpass("Once more: ") != password:
        raise UsageError("the two passwords differ")
    return password


class _Reporter:
    """Reports of the build: drawn on a terminal, a line a step elsewhere."""

    def __init__(self, line: ProgressLine, name: str) -> None:
        self._line = line
        self._name = name
        self._step = ""
        self._draws = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def __call__(self, step: str, part: float | None) -> None:
        if self._draws:
            self._line.show({"action": "building", "domain": self._name, "step": step, "progress": part})
        elif step != self._step:
            print(f">> {escaped(step)} ...", file=sys.stderr, flush=True)
        self._step = step


def _tell(image: Image, order: Order) -> None:
    facts: dict[str, Any] = image.to_mapping()
    kept = f"{shown(facts['size_bytes'])}, {shown(facts['used_bytes'])} of it in use"
    print(f"{escaped(image.name)} is built: Debian {image.suite}, kernel {image.release}, {kept}")
    print(f"  files    {escaped(str(image.folder))}")
    print(f"  start    xm create -c {escaped(str(image.config))}")
    if order.personal.keys:
        print(f"  ssh      ssh -p {PORT} root@127.0.0.1")
    else:
        print("  ssh      nobody is let in: no public key was given, and there is none in ~/.ssh")
