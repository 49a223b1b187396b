"""Definitions outlive xend, each in a file."""

from pathlib import Path

import pytest

from tests.unit.xend.kit import config, folders, names
from xenion.api.errors import ApiError
from xenion.config.domain import XendStart
from xenion.xend.managed import Managed, ManagedDomains, shown

UUID = "00000000-0000-4000-8000-00000000f00d"


def one(at: Path, name: str = "web") -> Managed:
    return Managed(config(at, name, uuid=UUID, on_xend_start=XendStart.START), name)


def test_put_found_and_forgotten(tmp_path: Path) -> None:
    where, made = folders(tmp_path), one(tmp_path)
    definitions = ManagedDomains(where)
    definitions.put(made)
    for again in (definitions, ManagedDomains(where)):
        assert list(again) == [made]
        assert again.get(UUID) == again.named("web") == made
        assert again.get("x") is again.named("x") is None
    definitions.put(one(tmp_path, "new"))
    assert [managed.name for managed in ManagedDomains(where)] == ["new"]
    definitions.forget(made)
    definitions.forget(made)
    assert list(definitions) == list(ManagedDomains(where)) == []


def test_what_cannot_be_read_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    where = folders(tmp_path)
    ManagedDomains(where).put(one(tmp_path))
    for name, text in (("a", "{"), ("b", "[]"), ("c", '{"config": {}, "logs": ""}'), ("d", '{"config": 3}')):
        (where.managed / f"{name}.json").write_text(text)
    (where.managed / ".e.json.new").touch()
    assert [managed.name for managed in ManagedDomains(where)] == ["web"]
    assert len(caplog.records) == 4
    assert names(where.managed) == [f"{UUID}.json", "a.json", "b.json", "c.json", "d.json"]


def test_a_disk_that_fails_changes_nothing(tmp_path: Path) -> None:
    where, made = folders(tmp_path), one(tmp_path)
    definitions = ManagedDomains(where)
    where.managed.rmdir()
    with pytest.raises(ApiError) as caught:
        definitions.put(made)
    assert caught.value.code == "failed"
    assert list(definitions) == []


def test_shown(tmp_path: Path) -> None:
    domain = shown(one(tmp_path), folders(tmp_path))
    assert (domain["state"], domain["domid"], domain["managed"], domain["autostart"]) == (
        "defined",
        None,
        True,
        True,
    )
    assert domain["folder"] == str(tmp_path / "state" / "domains" / "web")
