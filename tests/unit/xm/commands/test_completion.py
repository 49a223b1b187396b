"""`xm completion`."""

import pytest

from tests.unit.xm.conftest import Xm


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(xm: Xm, shell: str) -> None:
    ran = xm("completion", shell)
    assert ran.status == 0
    assert f"made by: xm completion {shell}\n" in ran.out


def test_no_script_for_others(xm: Xm) -> None:
    assert xm("completion", "csh").status == 2
