"""What may have left this host is known until that is decided."""

from pathlib import Path

import pytest

from tests.unit.xend.disk import disk_ends_at
from xenion.xend.migration.departures import Departures

FILE = "departures.json"
LEAVING = {"id": "a", "host": "there", "port": 8002, "ssl": False}


def test_none_at_first(tmp_path: Path) -> None:
    known = Departures(tmp_path)
    known.remove("web")
    assert (known.get("web"), known.uuids()) == (None, [])
    assert not (tmp_path / FILE).exists()


def test_known_until_it_is_removed(tmp_path: Path) -> None:
    known = Departures(tmp_path)
    known.add("web", LEAVING)
    known.add("db", {**LEAVING, "id": "b"})
    for found in (known, Departures(tmp_path)):
        assert (found.get("web"), sorted(found.uuids())) == (LEAVING, ["db", "web"])
    known.remove("web")
    for found in (known, Departures(tmp_path)):
        assert (found.get("web"), found.uuids()) == (None, ["db"])
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_a_full_disk(tmp_path: Path) -> None:
    known = Departures(tmp_path)
    with disk_ends_at(0), pytest.raises(OSError, match="File too large"):
        known.add("web", LEAVING)
    assert known.get("web") is None


@pytest.mark.parametrize("data", ["", "[]", "{", "[" * 100000, '{"web": 1}'])
def test_a_damaged_file(tmp_path: Path, data: str) -> None:
    (tmp_path / FILE).write_text(data)
    with pytest.raises(OSError, match="it is damaged: move it away"):
        Departures(tmp_path)
