"""The cache folder: one writer, nothing half-made."""

import threading
from pathlib import Path

import pytest

from xenion.images import cache
from xenion.images.cache import CacheError


def no_say(line: str) -> None:
    raise AssertionError(line)


def test_the_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/where")
    assert cache.folder() == Path("/some/where/xenion")


@pytest.mark.parametrize("value", ["", "relative/path"])
def test_without_a_usable_xdg_it_is_in_the_home_folder(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    monkeypatch.setenv("HOME", "/home/me")
    assert cache.folder() == Path("/home/me/.cache/xenion")


def test_without_a_home_folder_the_error_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(CacheError, match="XDG_CACHE_HOME"):
        cache.folder()


def test_the_lock_keeps_a_second_writer_out_and_tells_it(tmp_path: Path) -> None:
    waiting = threading.Event()
    order: list[str] = []

    def second() -> None:
        with cache.locked(tmp_path, lambda _: waiting.set()):
            order.append("second")

    thread = threading.Thread(target=second)
    with cache.locked(tmp_path, no_say):
        thread.start()
        assert waiting.wait(30)
        order.append("first")
    thread.join(30)

    assert order == ["first", "second"]


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / ".unfinished-x" / "deep").mkdir(parents=True)

    with cache.locked(tmp_path, no_say):
        pass

    assert {path.name for path in tmp_path.iterdir()} == {"kept", "lock"}


def test_scratch_is_gone_afterwards_even_after_an_error(tmp_path: Path) -> None:
    def fail() -> None:
        with cache.scratch(tmp_path) as path:
            (path / "file").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not list(tmp_path.iterdir())


def test_write_replaces_a_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file"
    cache.write(target, b"one")
    cache.write(target, b"two")

    assert target.read_bytes() == b"two"
    assert list(target.parent.iterdir()) == [target]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()

    with pytest.raises(OSError, match="taken"):
        cache.write(tmp_path / "taken", b"x")

    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
