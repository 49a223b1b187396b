"""Domains are found by name, id and UUID, and each of these means one domain."""

from contextlib import suppress
from pathlib import Path

import pytest

from tests.unit.xend.kit import config, folders
from xenion.api.errors import ApiError
from xenion.config.disk import Disk
from xenion.xend import registry as registry_module
from xenion.xend.live import Live
from xenion.xend.managed import Managed
from xenion.xend.record import Record
from xenion.xend.registry import Registry
from xenion.xend.storage import private_folder, read_json

DISK = Disk(target="/x", vdev="xvda")
UUID = "00000000-0000-4000-8000-00000000000{}"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """web runs as 1, db as 2 and is managed, idle is managed and does not run."""
    where = folders(tmp_path)
    private_folder(where.run)
    made = Registry(where)
    for domid, name in ((1, "web"), (2, "db")):
        record = Record(UUID.format(domid), domid, name, name, config(tmp_path, name), name == "db")
        made.live[record.uuid] = Live(where, record, tmp_path)
    for number, name in ((2, "db"), (3, "idle")):
        made.managed.put(Managed(config(tmp_path, name, uuid=UUID.format(number)), name))
    return made


@pytest.mark.parametrize("word", ["web", "1", UUID.format(1)])
def test_found(registry: Registry, word: str) -> None:
    assert registry.find(word).name == "web"
    assert registry.need_live(word).name == "web"


def test_a_managed_one_is_found_as_it_runs(registry: Registry) -> None:
    assert isinstance(registry.find("db"), Live)
    for word in ("idle", UUID.format(3)):
        assert isinstance(registry.find(word), Managed)
        with pytest.raises(ApiError, match="`xm start idle` starts it") as caught:
            registry.need_live(word)
        assert caught.value.code == "wrong-state"


@pytest.mark.parametrize(
    ("word", "code", "says"),
    [
        ("x", "no-such-domain", 'no domain of the name "x"'),
        ("7", "no-such-domain", "no domain of the id 7"),
        ("01", "no-such-domain", "id 01"),
        ("0", "wrong-state", "the host itself"),
        ("Domain-0", "wrong-state", "the host itself"),
    ],
)
def test_not_found(registry: Registry, word: str, code: str, says: str) -> None:
    with pytest.raises(ApiError, match=says) as caught:
        registry.find(word)
    assert caught.value.code == code


def test_names_are_unique(registry: Registry) -> None:
    for name in ("web", "db", "idle"):
        with pytest.raises(ApiError) as caught:
            registry.check_name_is_free(name, UUID.format(9))
        assert caught.value.code == "already-exists"
    registry.check_name_is_free("web", UUID.format(1))
    registry.check_name_is_free("idle", UUID.format(3))
    registry.check_name_is_free("new")


def test_a_name_that_was_given_away_is_kept_for_who_gets_it(registry: Registry) -> None:
    made = registry.find("web")
    assert isinstance(made, Live)
    made.record.successor, made.record.successor_uuid = "heir", UUID.format(8)
    registry.check_name_is_free("heir")
    made.record.wants = ["successor"]
    registry.check_name_is_free("heir", UUID.format(8))
    with pytest.raises(ApiError):
        registry.check_name_is_free("heir", UUID.format(9))


def test_each_id_once(registry: Registry) -> None:
    assert [registry.next_domid() for _ in range(3)] == [3, 4, 5]
    assert Registry(registry.where).next_domid() == 6, "over restarts, too"
    assert read_json(registry.where.run / "next-domid.json") == 7


def test_ids_that_are_free(registry: Registry, tmp_path: Path) -> None:
    assert [registry.is_free(domid) for domid in (1, 2, 3)] == [False, False, True]
    made = Record(UUID.format(9), 3, "new", "new", config(tmp_path, "new"))
    with registry.coming(made):
        assert not registry.is_free(3)
    assert registry.is_free(3)
    del registry.live[UUID.format(1)]
    assert registry.is_free(1)


def test_ids_come_round(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "DOMID_END", 6)
    assert [registry.next_domid() for _ in range(5)] == [3, 4, 5, 3, 4]


@pytest.mark.parametrize("text", ["", "x", "[]", "{}", '"9"', "-4"])
def test_a_counter_that_makes_no_sense_begins_anew(registry: Registry, text: str) -> None:
    (registry.where.run / "next-domid.json").write_text(text)
    assert registry.next_domid() == (9 if text == '"9"' else 3)


def test_what_was_promised(registry: Registry) -> None:
    assert registry.promised() == [(16, None), (16, None)]


def test_one_that_is_coming_has_its_name_its_memory_and_its_id(registry: Registry, tmp_path: Path) -> None:
    made = Record(UUID.format(9), 3, "new", "new", config(tmp_path, "new", disks=(DISK,)))
    with suppress(ZeroDivisionError), registry.coming(made):
        with pytest.raises(ApiError, match='a domain "new" is being started'):
            registry.check_name_is_free("new")
        registry.check_name_is_free("new", made.uuid)
        assert registry.is_running(made.uuid)
        assert registry.find_live("new") is None
        assert registry.coming_domids() == {3}
        assert registry.disks()["new"] == (DISK,)
        assert registry.next_domid() == 4
        assert len(registry.promised()) == 3
        raise ZeroDivisionError
    registry.check_name_is_free("new")
    assert not registry.is_running(made.uuid)
    assert registry.coming_domids() == set()
    assert len(registry.promised()) == 2


# --- closed


def test_one_that_is_closed_is_not_started(registry: Registry) -> None:
    """Whichever UUID it has; others are."""
    with suppress(ZeroDivisionError), registry.closed("idle", "its disks are away"):
        for uuid in (UUID.format(3), UUID.format(9), ""):
            with pytest.raises(ApiError) as caught:
                registry.check_name_is_free("idle", uuid)
            assert caught.value.code == "wrong-state"
            assert caught.value.message == "its disks are away: try again when that is done"
        registry.check_name_is_free("new")
        raise ZeroDivisionError
    registry.check_name_is_free("idle", UUID.format(3))


def test_a_name_that_nobody_has_can_be_closed(registry: Registry) -> None:
    with registry.closed("gone", "its disks are away"), pytest.raises(ApiError, match="its disks are away"):
        registry.check_name_is_free("gone")
    registry.check_name_is_free("gone")


def test_closed_once(registry: Registry) -> None:
    """The first one counts."""
    with registry.closed("idle", "first"):
        with pytest.raises(ApiError, match="first: try again"), registry.closed("idle", "second"):
            raise AssertionError
        with pytest.raises(ApiError, match="first: try again"):
            registry.check_name_is_free("idle", UUID.format(3))
        with registry.closed("other", "others"):
            pass


@pytest.mark.parametrize(
    ("name", "code"), [("web", "already-exists"), ("db", "wrong-state"), ("coming", "already-exists")]
)
def test_what_runs_is_not_closed(registry: Registry, tmp_path: Path, name: str, code: str) -> None:
    made = Record(UUID.format(9), 3, "coming", "coming", config(tmp_path, "coming"))
    with registry.coming(made):
        with pytest.raises(ApiError) as caught, registry.closed(name, "its disks are away"):
            raise AssertionError
        assert caught.value.code == code
    for uuid, taken in ((UUID.format(1), "web"), (UUID.format(2), "db")):
        registry.check_name_is_free(taken, uuid)


def test_a_managed_one_that_is_started_is_not_closed(registry: Registry, tmp_path: Path) -> None:
    made = Record(UUID.format(3), 3, "idle", "idle", config(tmp_path, "idle"), managed=True)
    with registry.coming(made):
        with (
            pytest.raises(ApiError, match="idle is running: end it first") as caught,
            registry.closed("idle", "x"),
        ):
            raise AssertionError
        assert caught.value.code == "wrong-state"
    with registry.closed("idle", "x"):
        pass
