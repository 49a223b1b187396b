"""Recipes."""

import pytest

from xenion.images.recipe import Kernel, Recipe, RecipeError, packages_of


def test_the_usual_one() -> None:
    recipe = Recipe()
    assert {"systemd-sysv", "openssh-server", "linux-image-cloud-amd64"} <= set(recipe.included)
    assert recipe.sources == [
        "deb http://deb.debian.org/debian bookworm main",
        "deb http://deb.debian.org/debian bookworm-updates main",
        "deb http://deb.debian.org/debian-security bookworm-security main",
    ]


def test_what_is_asked_for_is_included_once() -> None:
    included = Recipe(packages=("nginx", "less"), cloud_init=True, kernel=Kernel.GENERIC).included
    assert {"nginx", "cloud-init", "linux-image-amd64"} <= set(included)
    assert "linux-image-cloud-amd64" not in included
    assert included == sorted(set(included))


def test_mirrors_by_https_need_certificates() -> None:
    assert "ca-certificates" not in Recipe().included
    assert "ca-certificates" in Recipe(mirror="https://example.org/debian").included


def test_sid_has_no_updates() -> None:
    assert Recipe(suite="sid").sources == ["deb http://deb.debian.org/debian sid main"]


def test_without_security_updates() -> None:
    assert not any("security" in line for line in Recipe(security_mirror="").sources)


def test_bullseye_has_resolved_in_systemd() -> None:
    assert "systemd-resolved" not in Recipe(suite="bullseye").included


@pytest.mark.parametrize("suite", ["", "../x", "book worm", "-x", "Bookworm", "a" * 41])
def test_no_suite(suite: str) -> None:
    with pytest.raises(RecipeError, match="no name of a Debian suite"):
        Recipe(suite=suite)


@pytest.mark.parametrize("url", ["", "ftp://x/", "http://a b/", "http://", "x", "http://a\n"])
def test_no_mirror(url: str) -> None:
    with pytest.raises(RecipeError, match="no mirror's address"):
        Recipe(mirror=url)


@pytest.mark.parametrize("name", ["", "-x", "a b", "a,b", "A", "../x", "a;b", "$(x)"])
def test_no_package(name: str) -> None:
    with pytest.raises(RecipeError, match="no Debian package's name"):
        Recipe(packages=(name,))


def test_too_many_packages() -> None:
    with pytest.raises(RecipeError, match="too many"):
        Recipe(packages=tuple(f"p{n}" for n in range(501)))


def test_names_of_packages_out_of_words() -> None:
    assert packages_of(["nginx,curl", "git  nginx", ",,"]) == ("nginx", "curl", "git")
