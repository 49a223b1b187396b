"""zsh's script has every command, and zsh can read it where it is installed."""

import shutil
import subprocess

import pytest

from xenion.xm.completion.zsh import script
from xenion.xm.main import names


def test_every_command_and_its_arguments() -> None:
    text = script()
    assert text.startswith("#compdef xm\n")
    for name in names():
        assert f"        {name}) _arguments" in text
    assert "'*:dom:_xm_domains'" in text
    assert "'--state=[only the domains in this state]:" in text


def test_zsh_can_read_it() -> None:
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    subprocess.run(["zsh", "-n"], input=script(), text=True, check=True)
