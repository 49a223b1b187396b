"""The commands' parsers as data."""

import pytest

from xenion.xm.description import Command, commands
from xenion.xm.main import names


@pytest.fixture
def known() -> dict[str, Command]:
    return {command.name: command for command in commands()}


def test_every_command(known: dict[str, Command]) -> None:
    assert list(known) == names()
    for command in known.values():
        assert all(argument.text for argument in command.arguments)


def test_arguments(known: dict[str, Command]) -> None:
    shown = " ".join(argument.usage for argument in known["create"].arguments)
    assert shown == "[-c] [-p] [--json] [-n] [-F] [-q] [-f FILE] [FILE] [NAME=VALUE ...]"
    assert [argument.usage for argument in known["destroy"].arguments] == ["DOM [DOM ...]"]
    assert known["trigger"].words == ["nmi", "reset", "init", "s3resume"]
    assert known["destroy"].takes("DOM")
    assert not known["destroy"].takes("FILE")


def test_what_is_hidden_stays_hidden(known: dict[str, Command]) -> None:
    flags = [flag for option in known["list"].options for flag in option.flags]
    assert flags == ["-l", "--long", "--state", "--json"]


def test_what_prints_can_print_json(known: dict[str, Command]) -> None:
    silent = {"completion", "console", "delete", "destroy", "help", "pause", "unpause", "reboot", "rename"}
    silent |= {
        "shutdown",
        "sysrq",
        "trigger",
        "vcpu-set",
        "vcpu-pin",
        "mem-set",
        "mem-max",
        "block-detach",
        "cd-insert",
        "cd-eject",
        "network-detach",
        "checkpoint-delete",
        "suspend",
    }
    silent |= {"network-dump", "image"}  # the latter's verbs have options of their own
    for command in known.values():
        flags = [flag for option in command.options for flag in option.flags]
        assert ("--json" in flags) == (command.name not in silent), command.name
