"""`xm create` up to the point where a domain would start."""

from pathlib import Path

import pytest

from xenion.xm.commands import create
from xenion.xm.errors import UsageError, XmError


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "web.cfg"
    path.write_text("kernel = '/boot/vmlinuz'\ncpu_weight = 7\n")
    return path


def test_a_dry_run_shows_the_configuration(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert create.run(["-n", str(config), "memory=77"]) == 0
    shown = capsys.readouterr()
    assert "memory      = 77\n" in shown.out
    assert 'name        = "web"\n' in shown.out
    assert shown.err == ""


@pytest.mark.parametrize("word", ["memory", "=7", "two words=7", "1st=7"])
def test_an_override_must_be_name_and_value(config: Path, word: str) -> None:
    with pytest.raises(UsageError, match=f'"{word}" is not NAME=VALUE'):
        create.run(["-n", str(config), word])


def test_a_value_may_hold_equals_signs(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create.run(["-n", str(config), "extra=a=b c=d"])
    assert 'cmdline     = "a=b c=d"\n' in capsys.readouterr().out


def test_a_bad_configuration_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        create.run(["-n", str(tmp_path / "none.cfg")])


def test_without_a_console_it_says_what_to_do(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(XmError, match="use xm create -c"):
        create.run([str(config)])
    assert capsys.readouterr().err == "note: cpu_weight: Not acted on yet.\n"
