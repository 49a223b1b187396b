"""The real apt, with its state in a folder, on a repository in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from xenion.images.apt import Apt, AptError

if TYPE_CHECKING:
    from tests.unit.images.conftest import Repository


@pytest.fixture
def apt(tmp_path: Path) -> Apt:
    return Apt(tmp_path / "private apt")


def test_lists_are_here_after_an_update(repository: Repository, apt: Apt) -> None:
    repository.publish()

    assert not apt.has_lists()
    apt.update()
    assert apt.has_lists()


def test_lists_that_could_not_all_be_fetched_are_not_taken_as_current(
    apt: Apt, repository: Repository
) -> None:
    (repository.folder / "Release").unlink(missing_ok=True)

    apt.update()

    assert not apt.has_lists()


def test_dependencies_come_in_their_order_without_alternatives(repository: Repository, apt: Apt) -> None:
    repository.add("meta", "2", depends="one (= 2), two | three, four:any, one (>= 1)")
    repository.publish()
    apt.update()

    assert apt.depends("meta") == ["one", "two", "four"]


def test_a_package_may_depend_on_nothing(repository: Repository, apt: Apt) -> None:
    repository.add("alone", "1")
    repository.publish()
    apt.update()

    assert apt.depends("alone") == []


def test_the_file_that_is_named_is_the_file_that_comes(
    repository: Repository, apt: Apt, tmp_path: Path
) -> None:
    deb = repository.add("tool", "1.0", repository.file("./bin/tool", b"x"))
    repository.publish()
    apt.update()

    name = apt.file_name("tool")
    path = apt.download("tool", tmp_path)

    assert name == "tool_1.0_amd64.deb"
    assert path == tmp_path / name
    assert path.read_bytes() == deb.read_bytes()


def test_nothing_of_the_systems_state_is_used(repository: Repository, apt: Apt) -> None:
    repository.publish()
    apt.update()

    # Installed wherever apt is, but not in this repository.
    with pytest.raises(AptError, match="offer no package dpkg"):
        apt.file_name("dpkg")


def test_an_unsigned_repository_is_refused(repository: Repository, apt: Apt, tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(f"deb copy:{repository.folder} ./\n")
    repository.add("tool", "1")
    repository.publish()
    apt.update()

    with pytest.raises(AptError, match=r"offer no package tool .*not signed"):
        apt.file_name("tool")


def test_an_unsigned_repository_is_refused_whatever_the_user_allows(
    repository: Repository, apt: Apt, tmp_path: Path
) -> None:
    (tmp_path / "sources.list").write_text(f"deb copy:{repository.folder} ./\n")
    with (tmp_path / "apt.conf").open("a") as config:
        config.write('Acquire::AllowInsecureRepositories "true";\nAPT::Get::AllowUnauthenticated "true";\n')
    repository.add("tool", "1")
    repository.publish()
    apt.update()

    with pytest.raises(AptError, match="offer no package tool"):
        apt.file_name("tool")


def test_a_package_that_was_changed_is_refused(repository: Repository, apt: Apt, tmp_path: Path) -> None:
    deb = repository.add("tool", "1", repository.file("./bin/tool", b"good"))
    repository.publish()
    apt.update()
    deb.write_bytes(deb.read_bytes().replace(b"good", b"evil"))

    with pytest.raises(AptError, match="cannot download package tool"):
        apt.download("tool", tmp_path)
    assert not (tmp_path / "tool_1_amd64.deb").exists()


def test_a_version_with_a_path_in_it_is_refused(repository: Repository, apt: Apt) -> None:
    repository.add("tool", "1").unlink()
    repository.publish()
    index = repository.folder / "Packages"
    index.write_text(index.read_text().replace("Version: 1", "Version: 1/../../x"))
    (repository.folder / "Release").unlink()
    apt.update()

    with pytest.raises(AptError, match=r"no \.deb file is named so"):
        apt.file_name("tool")


def test_an_unknown_package_is_one_sentence(repository: Repository, apt: Apt) -> None:
    repository.publish()
    apt.update()

    for ask in (apt.depends, apt.file_name):
        with pytest.raises(AptError, match="offer no package no-such") as caught:
            ask("no-such")
        assert "\n" not in str(caught.value)


def test_without_apt_the_error_says_what_to_do(
    apt: Apt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(AptError, match="There is no apt-get here"):
        apt.update()
