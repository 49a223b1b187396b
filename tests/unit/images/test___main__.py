"""`python -m xenion.images`, as people and make call it."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from xenion.images.__main__ import main

if TYPE_CHECKING:
    from tests.unit.images.conftest import Repository


@pytest.fixture(autouse=True)
def offers(repository: Repository) -> None:
    repository.add("linux-image-1-a", "1", repository.file("./boot/vmlinuz-1-a", b"k"))
    repository.add("linux-image-2-b", "1", repository.file("./boot/vmlinuz-2-b", b"k"))
    repository.add("busybox-static", "1", repository.file("./bin/busybox", b"the busybox", mode=0o755))
    repository.publish()


def test_paths_go_to_stdout_and_progress_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kernel", "linux-image-1-a", "linux-image-2-b"]) == 0

    out, err = capsys.readouterr()
    first, second = out.splitlines()
    assert first.endswith("/boot/vmlinuz-1-a")
    assert second.endswith("/boot/vmlinuz-2-b")
    assert Path(first).is_file()
    assert all(line.startswith(">> ") for line in err.splitlines())


def test_a_cached_kernel_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    main(["kernel", "linux-image-1-a"])
    capsys.readouterr()

    assert main(["kernel", "linux-image-1-a"]) == 0
    assert capsys.readouterr().err == ""


def test_busybox_is_told_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["busybox"]) == 0
    assert Path(capsys.readouterr().out.strip()).read_bytes() == b"the busybox"


def test_an_initramfs_holds_init_busybox_and_what_is_added(tmp_path: Path) -> None:
    script, extra, out = tmp_path / "script", tmp_path / "with:colon", tmp_path / "new" / "out.gz"
    script.write_bytes(b"the script")
    extra.write_bytes(b"the extra")

    status = main(["initramfs", str(out), "--init", str(script), "--add", f"{extra}:/etc/extra"])

    assert status == 0
    raw = gzip.decompress(out.read_bytes())
    for part in (b"the script", b"the busybox", b"the extra", b"etc/extra\0", b"bin/busybox\0", b"init\0"):
        assert part in raw


@pytest.mark.parametrize("guest", ["/init", "bin/busybox", "a/../b"])
def test_what_cannot_be_added_is_one_line(
    guest: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "script"
    script.touch()

    assert (
        main(["initramfs", str(tmp_path / "out"), "--init", str(script), "--add", f"{script}:{guest}"]) == 1
    )
    assert capsys.readouterr().err.splitlines()[-1].startswith("xenion.images: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments", [["kernel", "no-such-package"], ["kernel", "-- -o"], ["kernel", "../x"]]
)
def test_an_error_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("xenion.images: ")


@pytest.mark.parametrize("arguments", [[], ["kernel"], ["initramfs", "out"], ["kernel", "a", "--wrong"]])
def test_wrong_usage_exits_with_two(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
