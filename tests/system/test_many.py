"""Several domains at a time, by the same program that measures fifty of them (`python -m benches.many`)."""

from pathlib import Path

import pytest

from benches import many
from tests.system.xm import Xm


@pytest.mark.parametrize("count", [4, pytest.param(50, marks=pytest.mark.slow)])
def test_many_domains(
    xm: Xm,
    cloud_kernel: Path,
    busybox: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    count: int,
) -> None:
    """Created, listed, spoken to, measured and destroyed; nothing is left."""
    files = xm.folder / "files"
    files.mkdir()
    (files / "vmlinuz-cloud").symlink_to(cloud_kernel)
    (files / "busybox").symlink_to(busybox)
    monkeypatch.setattr(many, "FOLDER", xm.folder / "many")
    assert many.main([str(count), "--files", str(files)]) == 0, capsys.readouterr().err
    table = capsys.readouterr().out
    assert table.count("|") > 20
