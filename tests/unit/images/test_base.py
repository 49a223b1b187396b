"""Bases: kept, taken again, built anew. A stand-in for mmdebstrap makes a small file system; the rest is real."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.images.bases import RELEASE, make_base, make_disk, make_tree
from xenion.images import base, cache, host, mmdebstrap
from xenion.images.base import BaseError, key, load
from xenion.images.mmdebstrap import DebianError
from xenion.images.programs import find
from xenion.images.recipe import Recipe

pytestmark = pytest.mark.skipif(
    find("mke2fs") is None or find("setpriv") is None, reason="e2fsprogs or setpriv is not here"
)
RECIPE = Recipe()
Built = list[str]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    base.folder().mkdir(parents=True)
    # The real key depends on mmdebstrap's command line, which `debian` replaces.
    monkeypatch.setattr(base, "key", lambda recipe: hashlib.sha256(repr(recipe).encode()).hexdigest())


@pytest.fixture
def debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Takes the shell script that stands in for mmdebstrap: the file of a made system is $0, the descriptor $1."""
    monkeypatch.setattr(host, "check", lambda: None)
    tree = tmp_path / "tree"
    make_tree(tree)
    make_disk(tree, tmp_path / "made.img")

    def stand_in(script: str) -> None:
        def command(recipe: Recipe, descriptor: int) -> list[str]:
            return ["sh", "-c", script, str(tmp_path / "made.img"), str(descriptor)]

        monkeypatch.setattr(mmdebstrap, "command", command)

    return stand_in


MAKE = 'test -f early.tar && test -f late.tar && echo "I: extracting archives" && cat "$0" >/proc/self/fd/$1'


def obtain(recipe: Recipe = RECIPE, *, refresh: bool = False) -> tuple[base.Base, list[str], list[str]]:
    steps: list[str] = []
    said: list[str] = []
    with cache.locked(base.folder(), said.append):
        made = base.obtain(
            recipe, refresh=refresh, report=lambda step, part: steps.append(step), say=said.append
        )
    return made, steps, said


def test_a_key_changes_with_all_that_matters() -> None:
    recipes = [
        RECIPE,
        Recipe(suite="trixie"),
        Recipe(packages=("nginx",)),
        Recipe(cloud_init=True),
        Recipe(mirror="http://x/debian"),
        Recipe(security_mirror=""),
    ]
    keys = {key(recipe) for recipe in recipes}
    assert len(keys) == len(recipes)
    assert key(Recipe()) == key(RECIPE)
    assert key(Recipe(packages=("aa", "bb"))) == key(Recipe(packages=("bb", "aa")))


def test_a_recent_base_is_taken(tmp_path: Path) -> None:
    folder = make_base(RECIPE, tmp_path)
    made, steps, said = obtain()
    assert (made.folder, made.release, made.packages, steps, said) == (folder, RELEASE, 2, [], [])


def test_one_is_built_and_taken_from_then_on(debian: Callable[[str], None]) -> None:
    debian(MAKE)
    made, steps, _ = obtain()
    assert "unpacking the essential packages" in steps
    assert made.kernel.read_bytes() == b"the kernel"
    assert made.initrd.read_bytes() == b"the initrd"
    assert (made.release, made.packages) == (RELEASE, 2)
    assert made.disk.stat().st_mode & 0o777 == 0o600
    assert obtain()[1] == []
    names = {path.name for path in base.folder().iterdir()}
    assert names == {"build.log", "debs", "lock", made.folder.name}


def test_an_old_one_is_built_anew(tmp_path: Path, debian: Callable[[str], None]) -> None:
    old = make_base(RECIPE, tmp_path, age=base.CURRENT_S + 1)
    debian(MAKE)
    made, steps, _ = obtain()
    assert made.folder == old
    assert steps
    assert time.time() - made.built_at < base.CURRENT_S


def test_a_refresh_builds_anew(tmp_path: Path, debian: Callable[[str], None]) -> None:
    make_base(RECIPE, tmp_path, age=10)
    debian(MAKE)
    assert obtain(refresh=True)[1]


FAIL = 'echo "E: Failed to fetch http://m/x  Could not resolve m"; exit 1'


def test_an_old_one_will_do_where_debian_cannot_be_reached(
    tmp_path: Path, debian: Callable[[str], None]
) -> None:
    old = make_base(RECIPE, tmp_path, age=base.CURRENT_S + 1)
    debian(FAIL)
    made, _, said = obtain()
    assert made.folder == old
    assert len(said) == 1
    assert said[0].startswith("using the system as it was on 20")
    with pytest.raises(DebianError):
        obtain(refresh=True)


def test_a_failure_is_told_and_leaves_the_log_only(debian: Callable[[str], None]) -> None:
    debian(FAIL)
    with pytest.raises(
        DebianError, match=r"http://m/x cannot be fetched: Could not resolve m; all of it is in .*log"
    ):
        obtain()
    assert {path.name for path in base.folder().iterdir()} == {"build.log", "debs", "lock"}
    assert "Failed to fetch" in (base.folder() / "build.log").read_text()


@pytest.mark.parametrize("script", ["true", "exit 0; echo"])
def test_success_without_a_disk_is_a_failure(script: str, debian: Callable[[str], None]) -> None:
    debian(script)
    with pytest.raises(DebianError):
        obtain()


def test_an_interruption_leaves_nothing(
    debian: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    debian('echo "I: extracting archives"; cat "$0" >/proc/self/fd/$1; sleep 1000')

    def interrupt(self: object, text: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(mmdebstrap.Progress, "line", interrupt)
    with pytest.raises(KeyboardInterrupt):
        obtain()
    assert {path.name for path in base.folder().iterdir()} == {"build.log", "debs", "lock"}


def test_two_kernels_are_one_too_many(tmp_path: Path, debian: Callable[[str], None]) -> None:
    (tmp_path / "tree" / "boot" / "vmlinuz-2").touch()
    make_disk(tmp_path / "tree", tmp_path / "made.img")
    debian(MAKE)
    with pytest.raises(BaseError, match="2 kernels"):
        obtain()


@pytest.mark.parametrize("record", ["", "{}", "[]", '{"release": 1, "packages": "x", "built_at": 0}', "null"])
def test_what_is_not_whole_is_no_base(record: str, tmp_path: Path) -> None:
    folder = make_base(RECIPE, tmp_path)
    (folder / "base.json").write_text(record)
    assert load(folder) is None


def test_a_base_without_its_disk_is_none(tmp_path: Path) -> None:
    folder = make_base(RECIPE, tmp_path)
    assert load(folder)
    (folder / "root.img").unlink()
    assert load(folder) is None


def test_a_base_of_the_future_is_not_taken_as_current(tmp_path: Path, debian: Callable[[str], None]) -> None:
    folder = make_base(RECIPE, tmp_path)
    record = json.loads((folder / "base.json").read_text())
    (folder / "base.json").write_text(json.dumps({**record, "built_at": time.time() + 1e6}))
    debian(MAKE)
    assert obtain()[1]


def test_old_bases_of_others_go(tmp_path: Path, debian: Callable[[str], None]) -> None:
    old = make_base(Recipe(packages=("old",)), tmp_path, age=base.KEPT_S + 1)
    young = make_base(Recipe(packages=("young",)), tmp_path, age=base.KEPT_S - 60)
    debian(MAKE)
    obtain()
    assert not old.exists()
    assert young.exists()


def test_packages_that_are_kept_have_a_limit(tmp_path: Path) -> None:
    debs = tmp_path / "debs"
    debs.mkdir()
    for number in range(4):
        path = debs / f"{number}.deb"
        path.write_bytes(bytes(100))
        os.utime(path, (number, number))
    (debs / "other").write_bytes(bytes(1000))
    base._limit(debs, 250)
    assert sorted(path.name for path in debs.iterdir()) == ["2.deb", "3.deb", "other"]
