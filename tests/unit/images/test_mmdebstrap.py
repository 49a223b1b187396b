"""mmdebstrap's command line, progress and complaints."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.images.mmdebstrap import Progress, command, reason, variables
from xenion.images.recipe import Recipe

RECIPE = Recipe(packages=("nginx",))


def test_the_command_names_packages_and_sources() -> None:
    words = command(RECIPE, 5)
    assert words[0] == "mmdebstrap"
    assert words[-5:] == ["bookworm", "/dev/null", *RECIPE.sources]
    assert f"--include={','.join(RECIPE.included)}" in words
    assert "--format=null" in words
    assert "--mode=root" in words


def test_hooks_are_shell_scripts_without_mistakes() -> None:
    hooks = [word.partition("=")[2] for word in command(RECIPE, 5) if "-hook=" in word]
    scripts = [hook for hook in hooks if "\n" in hook]
    assert len(scripts) == 4
    for script in scripts:
        subprocess.run(["sh", "-n"], input=script.encode(), check=True)


def test_the_file_system_goes_to_the_descriptor_and_comes_last() -> None:
    last = [word for word in command(RECIPE, 57) if "-hook=" in word][-1]
    assert "/proc/self/fd/57 " in last
    assert "{" not in last.replace("${", "").replace("{} +", "")


def test_variables() -> None:
    given_ = variables(Path("/work"), Path("/debs"))
    assert given_ == {"INITRD": "No", "TMPDIR": "/work", "XENION_DEBS": "/debs"}


def heard(text: str) -> tuple[Progress, list[tuple[str, float | None]]]:
    reports: list[tuple[str, float | None]] = []
    progress = Progress(lambda step, part: reports.append((step, part)))
    for line in text.splitlines():
        progress.line(line)
    return progress, reports


def test_progress() -> None:
    _, reports = heard(
        "Get:1 http://x bookworm InRelease\n"
        "I: downloading packages with apt...\n"
        "0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.\n"
        "Get:1 http://x a 1\nGet:2 http://x b 1\n"
        "I: extracting archives...\n"
        "I: installing essential packages...\n"
        "Unpacking a (1) ...\nSetting up a (1) ...\nUnpacking b (1) ...\nSetting up b (1) ...\nSetting up c ...\n"
    )
    assert reports == [
        ("downloading the essential packages", None),
        ("downloading packages", 0.5),
        ("downloading packages", 1.0),
        ("unpacking the essential packages", None),
        ("setting up the essential packages", None),
        ("setting up the essential packages", 0.25),
        ("setting up the essential packages", 0.5),
        ("setting up the essential packages", 0.75),
        ("setting up the essential packages", 1.0),
        ("setting up the essential packages", 1.0),
    ]


@given(st.lists(st.text(max_size=60)))
def test_parts_are_parts_whatever_is_said(lines: list[str]) -> None:
    progress, reports = heard("\n".join(["1 upgraded, 3 newly installed", *lines]))
    assert all(part is None or 0 <= part <= 1 for _, part in reports)
    assert reason(RECIPE, progress)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("E: Unable to locate package nosuch", "Debian bookworm has no package nosuch"),
        ("E: Package 'old' has no installation candidate", "Debian bookworm has no package old"),
        (
            "Err:5 http://m/debian bookworm Release\n  404  Not Found [IP: 1.2.3.4 80]\n"
            "E: The repository 'http://m/debian bookworm Release' does not have a Release file.",
            "the mirror http://m/debian cannot be reached or has no suite bookworm (404  Not Found [IP: 1.2.3.4 80])",
        ),
        (
            "W: x\nE: Failed to fetch http://m/debian/dists/x/InRelease  Could not resolve 'm'\nE: Some files",
            "http://m/debian/dists/x/InRelease cannot be fetched: Could not resolve 'm'",
        ),
        (
            "E: GPG error: x: NO_PUBKEY 123\n",
            "the mirror's signature is not one that this host trusts (NO_PUBKEY)",
        ),
        (
            "tar: x: Cannot write: No space left on device\nE: tar failed",
            "there is no room left where Debian is unpacked: make room in memory or below XDG_CACHE_HOME",
        ),
        ("mke2fs: Could not allocate block\n", "mmdebstrap says: mke2fs: Could not allocate block"),
        ("E: setup failed.\n", "mmdebstrap says: setup failed"),
        ("last word", "mmdebstrap says: last word"),
        ("", "mmdebstrap says: no word"),
    ],
)
def test_reasons(said: str, why: str) -> None:
    progress, _ = heard(said)
    assert reason(RECIPE, progress) == why


def test_an_early_error_is_kept_whatever_follows() -> None:
    progress, _ = heard("E: Unable to locate package nosuch\n" + "noise\n" * 1000)
    assert reason(RECIPE, progress) == "Debian bookworm has no package nosuch"
    assert len(progress.tail) == 20
