"""The file may be the first argument or an option's, and notes are for people."""

from argparse import Namespace
from pathlib import Path

import pytest

from xenion.xm.configuration import configuration, tell_notes
from xenion.xm.errors import UsageError


def arguments(file: object, *words: str, defconfig: object = None) -> Namespace:
    path = None if file is None else str(file)
    return Namespace(
        file=path, overrides=list(words), defconfig=None if defconfig is None else str(defconfig)
    )


def test_either_way(config: Path) -> None:
    assert configuration(arguments(config, "memory=9")).memory_mib == 9
    assert configuration(arguments("memory=9", "vcpus=1", defconfig=config)).memory_mib == 9
    with pytest.raises(UsageError, match="give the configuration file"):
        configuration(arguments(None))


def test_a_bad_one(tmp_path: Path) -> None:
    (tmp_path / "bad.cfg").write_text("memory = 'lots'\n")
    with pytest.raises(UsageError, match=r"bad\.cfg:1:1: memory must be"):
        configuration(arguments(tmp_path / "bad.cfg"))


def test_notes(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tell_notes(configuration(arguments(config)))
    assert capsys.readouterr() == ("", "note: latency: not supported yet\n")
