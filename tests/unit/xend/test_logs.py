"""A domain's files: opened for its process, kept when they say something, moved with its name."""

import os
from pathlib import Path

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.kit import names
from xenion.api.errors import ApiError
from xenion.xend import logs


def opened(folder: Path) -> None:
    files = logs.open_all(folder)
    assert len(set(files.descriptors())) == 4
    for fd in files.descriptors():
        os.close(fd)


def test_opened_for_a_start(tmp_path: Path) -> None:
    folder = tmp_path / "domains" / "web"
    opened(folder)
    assert names(folder) == [".core", ".report", "console.log", "process.log"]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())
    (folder / "console.log").write_text("first")
    opened(folder)
    assert (folder / "console.log.1").read_text() == "first"
    opened(folder)
    assert (folder / "console.log.1").read_text() == "first", "an empty log takes no other's place"


def test_appended_but_for_the_core(tmp_path: Path) -> None:
    files = logs.open_all(tmp_path / "web")
    for fd, appends in (
        (files.console, True),
        (files.report, True),
        (files.process, True),
        (files.core, False),
    ):
        os.pwrite(fd, b"b", 1)
        assert os.fstat(fd).st_size == (1 if appends else 2)
        os.close(fd)


def test_a_folder_that_cannot_be_is_refused_and_nothing_stays_open(tmp_path: Path) -> None:
    folder = tmp_path / "web"
    (folder / ".report" / "x").mkdir(parents=True)
    before = descriptors()
    with pytest.raises(ApiError, match=r"\.report"):
        logs.open_all(folder)
    assert descriptors() == before


def test_a_spare_file_gets_its_name_once(tmp_path: Path) -> None:
    opened(tmp_path)
    (tmp_path / ".report").write_text("one")
    path = logs.keep(tmp_path, "report", 86400.25)
    assert path.name == "crash-19700102-000000.250.txt"
    os.close(logs.new_spare(tmp_path, "report"))
    assert logs.keep(tmp_path, "report", 86400.25) == path
    assert path.read_text() == "one"
    assert (tmp_path / ".report").exists()
    assert logs.keep(tmp_path, "core", 0).name == "core-19700101-000000.000"
    assert not logs.keep(tmp_path, "core", 1).exists(), "there was none"


@pytest.mark.parametrize(("kind", "most"), [("core", logs.CORES_KEPT), ("report", logs.REPORTS_KEPT)])
def test_the_oldest_go(tmp_path: Path, kind: str, most: int) -> None:
    kept = []
    for when in range(most + 3):
        os.close(logs.new_spare(tmp_path, kind))
        kept.append(logs.keep(tmp_path, kind, when).name)
    assert names(tmp_path) == kept[3:]


def test_tidied(tmp_path: Path) -> None:
    opened(tmp_path)
    logs.tidy(tmp_path)
    assert names(tmp_path) == ["console.log"]
    opened(tmp_path)
    (tmp_path / "process.log").write_text("a bug")
    os.close(logs.next_console(tmp_path))
    logs.tidy(tmp_path)
    assert names(tmp_path) == ["console.log", "process.log"]
    logs.tidy(tmp_path / "missing")


def test_the_next_log_is_not_lost_however_often_it_is_sent(tmp_path: Path) -> None:
    (tmp_path / "console.log").write_text("full")
    for said in (b"a", b"b"):
        fd = logs.next_console(tmp_path)
        os.write(fd, said)
        os.close(fd)
    logs.tidy(tmp_path)  # its process ended before it was known to have it
    assert (tmp_path / "console.log.1").read_text() == "full"
    assert (tmp_path / "console.log").read_text() == "ab"


def test_moved_with_a_name(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    logs.move(old, new)
    assert names(tmp_path) == []
    for folder in (old, new):
        folder.mkdir()
        (folder / "crash.txt").write_text(folder.name)
    logs.move(old, new)
    assert (new / "crash.txt").read_text() == "old"
    (aside,) = (path for path in tmp_path.iterdir() if path != new)
    assert aside.name.startswith("new~")
    assert (aside / "crash.txt").read_text() == "new"
    logs.move(new, new)
    logs.move(old, new)
    assert (new / "crash.txt").read_text() == "old"
