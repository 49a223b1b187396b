from pathlib import Path

import pytest

from tests.unit.xend.migration.kit import Host, install


@pytest.fixture
def host(tmp_path: Path, standins: None, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Its stand-ins can move."""
    install(monkeypatch)
    return Host(tmp_path / "here", tmp_path)


@pytest.fixture
def there(tmp_path: Path, host: Host) -> Host:
    """Another one."""
    return Host(tmp_path / "there", tmp_path)
