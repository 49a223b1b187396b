"""`xm help`."""

import pytest

from tests.unit.xm.conftest import Xm
from xenion.xm.main import load, names


def test_the_commands_are_listed(xm: Xm) -> None:
    lines = xm("help").out.splitlines()
    assert lines[0] == "usage: xm COMMAND [ARGUMENT ...]"
    assert [line.split()[0] for line in lines if line.startswith("  ")] == names()


@pytest.mark.parametrize("name", names())
def test_each_has_help(xm: Xm, name: str) -> None:
    ran = xm(name, "-h")
    assert ran.status == 0
    assert ran.out.startswith(f"usage: xm {name} [-h]")
    assert load(name).SUMMARY[1:] in " ".join(ran.out.split())
    assert xm("help", name).out == ran.out


def test_of_what_is_no_command(xm: Xm) -> None:
    assert xm("help", "craete").err == 'xm: there is no command "craete"; did you mean "create"?\n'
