"""Disks and network interfaces as the command line names and describes them: what the commands for them share."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from xenion.xm.arguments import Parser

MIB = 1 << 20


def disk_argument(parser: Parser) -> None:
    parser.add_argument(
        "vdev", metavar="DEV", type=disk_word, help="the virtual disk, such as xvdb, or its number"
    )


def interface_argument(parser: Parser) -> None:
    parser.add_argument(
        "device", metavar="DEV", type=interface_word, help="the interface's number or MAC address"
    )


def force_option(parser: Parser) -> None:
    parser.add_argument(
        "-f", "--force", action="store_true", help="do not wait for the guest to let go of it"
    )


def disk_word(word: str) -> str:
    """A disk's canonical name."""
    from xenion.config.errors import ConfigError
    from xenion.config.vdev import canonical

    try:
        return canonical(word)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(error.sentence) from None


def interface_word(word: str) -> str:
    """A number, or a MAC in lower case."""
    from xenion.config.errors import ConfigError
    from xenion.config.mac import check_mac

    if word.isascii() and word.isdecimal() and len(word) <= 5:
        return str(int(word))
    try:
        check_mac(word.lower())
    except ConfigError:
        raise argparse.ArgumentTypeError(f'"{word}" is neither a number nor a MAC address') from None
    return word.lower()


def disk_of(words: Sequence[str]) -> Any:
    """The disk that a specification asks for; its notes go to standard error. UsageError."""
    from xenion.config.diskspec import read_disk

    return _read(lambda: read_disk(*words))


def vif_of(words: Sequence[str]) -> Any:
    """The interface that a specification asks for; its notes go to standard error. UsageError."""
    from xenion.config.vifspec import read_vif

    return _read(lambda: read_vif(*words))


def target_of(word: str) -> str:
    """What a word puts into a CD-ROM drive: an absolute path or an NBD URL. UsageError."""
    from xenion.config.diskspec import read_target
    from xenion.config.errors import ConfigError
    from xenion.xm.errors import UsageError

    if not word:
        raise UsageError("give the path of the image")
    try:
        return read_target(word)
    except ConfigError as error:
        raise UsageError(str(error)) from None


def _read(read: Callable[[], tuple[Any, tuple[str, ...]]]) -> Any:
    from xenion.config.errors import ConfigError
    from xenion.xm.configuration import tell
    from xenion.xm.errors import UsageError

    try:
        device, notes = read()
    except ConfigError as error:
        raise UsageError(str(error)) from error
    tell(notes)
    return device


# --- what a domain has


def disks(client: Any, domain: str) -> list[Any]:
    """Each with its domain's name and id. ApiError."""
    return _with_domain(client.call("disks", domain=domain), "disks")


def interfaces(client: Any, domain: str) -> list[Any]:
    """Each with its domain's name and id. ApiError."""
    return _with_domain(client.call("interfaces", domain=domain), "interfaces")


def _with_domain(answer: Any, kind: str) -> list[Any]:
    return [{"domain": answer["name"], "domid": answer["domid"], **device} for device in answer[kind]]


def is_gone(
    client: Any, list_: Callable[[Any, str], list[Any]], domain: str, has: Callable[[Any], bool]
) -> bool:
    """Whether none of the domain's devices is the one that `has` knows; the domain itself may be gone."""
    from xenion.api.errors import ApiError

    try:
        return not any(map(has, list_(client, domain)))
    except ApiError as error:
        if error.code != "no-such-domain":
            raise
        return True


def is_interface(word: str) -> Callable[[Any], bool]:
    """Whether an interface is the one that `interface_word` gave."""
    return lambda device: word in (str(device["devid"]), device["mac"])


def configure_disk(client: Any, domain: str, vdev: str, changes: Any) -> Any:
    """The disk afterwards. ApiError."""
    from xenion.xm.calls import replaced

    return replaced(client, "configure_disk", changes, domain=domain, vdev=vdev)


def show(found: Sequence[Any], args: Any, header: str, line_of: Callable[[Any], str]) -> None:
    """As JSON, at length or as a table."""
    from xenion.xm.output import print_fields, print_json

    if args.json:
        print_json(list(found))
    elif args.long:
        for number, device in enumerate(found):
            print(end="\n" if number else "")
            print_fields(device)
    else:
        print("\n".join([header, *map(line_of, found)]))


def listing_options(parser: Parser, what: str) -> None:
    """-l and --json; `show` reads them."""
    from xenion.xm.arguments import json_option

    parser.add_argument("-l", "--long", action="store_true", help=f"everything about each {what}")
    json_option(parser)
