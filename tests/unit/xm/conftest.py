"""A fake xend that xm finds, and xm run in this process."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.xm.fake_xend import FakeXend
from xenion.api.folders import folders
from xenion.xm import main


@pytest.fixture
def xend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeXend]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("XDG_RUNTIME_DIR", "XEND_URL", "XEND_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    made = FakeXend(folders().socket)
    yield made
    made.close()


@dataclass(frozen=True, slots=True)
class Ran:
    status: int
    out: str
    err: str


Xm = Callable[..., Ran]


@pytest.fixture
def xm(xend: FakeXend, capsys: pytest.CaptureFixture[str]) -> Xm:
    """Runs a command line against the fake xend."""

    def run(*words: str | Path) -> Ran:
        capsys.readouterr()
        status = main.main([str(word) for word in words])
        shown = capsys.readouterr()
        return Ran(status, shown.out, shown.err)

    return run


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "web.cfg"
    path.write_text("kernel = '/boot/vmlinuz'\nlatency = 7\n")
    return path
