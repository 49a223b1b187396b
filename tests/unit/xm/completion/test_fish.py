"""fish's script has every command, and fish can read it where it is installed."""

import shutil
import subprocess

import pytest

from xenion.xm.completion.fish import script
from xenion.xm.main import names


def test_every_command_and_its_arguments() -> None:
    lines = script().splitlines()
    for name in names():
        assert any(f" -a {name} -d '" in line for line in lines)
    start = "complete -c xm -n '__fish_seen_subcommand_from destroy'"
    assert f"{start} -a '(xm list --names 2>/dev/null)'" in lines
    start = "complete -c xm -n '__fish_seen_subcommand_from list'"
    assert any(line.startswith(f"{start} -l state -x -a 'building running") for line in lines)


def test_fish_can_read_it() -> None:
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    subprocess.run(["fish", "--no-execute"], input=script(), text=True, check=True)
