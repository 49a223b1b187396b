"""`xm image` and its verbs."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.images.bases import RELEASE, make_base, make_image
from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend
from xenion.images import store
from xenion.images.ext4 import FileSystem
from xenion.images.programs import find
from xenion.images.recipe import Recipe
from xenion.xm.commands import image
from xenion.xm.description import commands

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3Rr0Y0p0mHkH0m2aXcXo0kz0kSg3cWw8r6Lr1E7x5n me"
needs_mke2fs = pytest.mark.skipif(find("mke2fs") is None, reason="e2fsprogs is not here")


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def based(tmp_path: Path) -> Callable[[Recipe], Path]:
    return lambda recipe: make_base(recipe, tmp_path)


def test_its_verbs_are_told(xm: Xm, xend: FakeXend) -> None:
    shown = xm("image", "-h").out
    for verb in image.VERBS:
        assert f"xm image {verb}" in shown
        assert f"xm image {verb}" in xm("image", verb, "-h").out
    assert xend.actions() == []


def test_completion_knows_the_verbs() -> None:
    (told,) = [command for command in commands() if command.name == "image"]
    assert told.words == list(image.VERBS)


@pytest.mark.parametrize(
    "words", [[], ["frob"], ["rm"], ["build", "debian"], ["build", "plan9", "x"], ["path"]]
)
def test_wrong_usage(words: list[str], xm: Xm) -> None:
    ran = xm("image", *words)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("xm: ")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--size", "2X"], "xm: '2X' is no size: write it as 2G or 1536M\n"),
        (["--size", "1G", "--packages", "a_b"], "xm: 'a_b' is no Debian package's name\n"),
        (["--suite", "../x"], "xm: '../x' is no name of a Debian suite: bookworm is one, sid another\n"),
        (
            ["--hostname", "a_b"],
            "xm: 'a_b' is no host name: letters, digits and dashes, at most 63, make one\n",
        ),
        (["--ssh-key", KEY, "--no-ssh-key"], "xm: --ssh-key and --no-ssh-key exclude each other\n"),
    ],
)
def test_what_can_never_be_built(options: list[str], told: str, xm: Xm) -> None:
    ran = xm("image", "build", "debian", "web", *options)
    assert (ran.status, ran.out, ran.err) == (2, "", told)


def test_a_name_that_is_none_or_taken(xm: Xm) -> None:
    ran = xm("image", "build", "debian", "a/b")
    assert (ran.status, ran.err.startswith("xm: 'a/b' is no image's name")) == (2, True)
    make_image("web")
    ran = xm("image", "build", "debian", "web")
    assert (ran.status, ran.err) == (2, "xm: there is an image web already: --force replaces it\n")


@needs_mke2fs
def test_an_image_is_built_and_told(xm: Xm, based: Callable[[Recipe], Path], tmp_path: Path) -> None:
    based(Recipe(packages=("nginx", "curl")))
    words = ["--packages", "nginx,curl", "--ssh-key", KEY, "--hostname", "host", "--size", "96M"]
    ran = xm("image", "build", "debian", "web", *words)
    assert ran.status == 0
    first, *rest = ran.out.splitlines()
    assert first.startswith(f"web is built: Debian bookworm, kernel {RELEASE}, 96 MiB, ")
    assert f"xm create -c {store.find('web').config}" in rest[1]
    assert rest[2].endswith("ssh -p 2222 root@127.0.0.1")
    assert ">> copying the system ...\n" in ran.err
    made = FileSystem(store.find("web").disk, tmp_path)
    assert made.read("/etc/hostname") == b"host\n"
    assert made.read("/root/.ssh/authorized_keys") == f"{KEY}\n".encode()


@needs_mke2fs
def test_ones_own_key_is_let_in_unless_nobody_is(
    xm: Xm, based: Callable[[Recipe], Path], tmp_path: Path
) -> None:
    based(Recipe())
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_ed25519.pub").write_text(KEY)
    xm("image", "build", "debian", "mine")
    assert FileSystem(store.find("mine").disk, tmp_path).names("/root/.ssh") == ["authorized_keys"]
    ran = xm("image", "build", "debian", "none", "--no-ssh-key")
    assert "nobody is let in" in ran.out
    assert FileSystem(store.find("none").disk, tmp_path).mode("/root/.ssh") is None


@needs_mke2fs
def test_a_password_comes_from_standard_input(
    xm: Xm, based: Callable[[Recipe], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    based(Recipe())
    given = tmp_path / "given"
    given.write_text("secret\nmore\n")
    with given.open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        ran = xm("image", "build", "debian", "web", "--console-login")
    assert ran.status == 0
    assert "secret" not in ran.out + ran.err
    assert FileSystem(store.find("web").disk, tmp_path).read("/etc/shadow").startswith(b"root:$y$")


@needs_mke2fs
def test_as_json(xm: Xm, based: Callable[[Recipe], Path]) -> None:
    based(Recipe())
    built = json.loads(xm("image", "build", "debian", "web", "--json").out)
    (listed,) = json.loads(xm("image", "list", "--json").out)
    assert built == listed
    assert (built["name"], built["size_bytes"], built["added"]) == ("web", 2 << 30, [])


def test_the_list(xm: Xm) -> None:
    assert xm("image", "list").out == ""
    make_image("web")
    make_image("a-longer-name")
    header, first, second = xm("image", "list").out.splitlines()
    assert header.split() == ["Name", "Suite", "Kernel", "Size", "Used", "Built"]
    assert first.split()[:4] == ["a-longer-name", "bookworm", RELEASE, "1"]
    assert second.startswith("web  ")


def test_a_damaged_image_does_not_hide_the_others(xm: Xm) -> None:
    make_image("web")
    (make_image("bad").folder / "image.json").write_text("{}")
    ran = xm("image", "list")
    assert ran.status == 1
    assert "web" in ran.out
    assert "xm: the image bad is damaged" in ran.err


def test_paths(xm: Xm) -> None:
    made = make_image("web")
    assert xm("image", "path", "web").out == f"{made.folder}\n"
    for file in ("disk", "kernel", "initrd", "config"):
        assert xm("image", "path", "web", file).out == f"{getattr(made, file)}\n"
    ran = xm("image", "path", "none")
    assert (ran.status, ran.err) == (1, "xm: there is no image none: `xm image list` tells which there are\n")


def test_images_are_removed(xm: Xm) -> None:
    for name in ("a", "b", "c"):
        make_image(name)
    with store.unused("b"):
        ran = xm("image", "rm", "a", "b", "none", "c")
    assert ran.status == 1
    assert ran.err.splitlines() == [
        "xm: the image b is in use: end the domain that runs on it first (`xm list`)",
        "xm: there is no image none: `xm image list` tells which there are",
    ]
    assert store.names() == ["b"]
