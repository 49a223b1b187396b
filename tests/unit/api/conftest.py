from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.xend.running import Xend


@pytest.fixture
def xend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Xend]:
    """A xend that clients of this process can start, too."""
    made = Xend(tmp_path)
    made.environ(monkeypatch)
    for name in ("XEND_URL", "XEND_TOKEN", "XEND_CA"):
        monkeypatch.delenv(name, raising=False)
    yield made
    made.close()
