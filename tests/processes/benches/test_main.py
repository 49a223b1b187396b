"""The command line: what it refuses, skips and shows. No guest runs here."""

import json
from pathlib import Path

import pytest

from benches import __main__ as command
from benches import peers


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "arguments", [["--runs", "0"], ["--runs", "x"], ["--only", "bochs"], ["--rows", "speed"], ["--only"]]
)
def test_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2


def test_the_host_is_measured_and_recorded(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "busybox").symlink_to("/bin/true")
    status = command.main(["--runs", "2", "--only", "host", "--rows", "syscall", "--files", str(folder)])
    shown = capsys.readouterr()
    assert status == 0
    assert "syscall" in shown.out
    assert "alu_200M" not in shown.out
    document = json.loads((folder / "build" / "bench.json").read_text())
    assert [run["peer"] for run in document["runs"]] == ["host", "host"]
    assert document["medians"]["syscall"]["host"] > 0


def test_missing_peers_are_skipped_with_what_installs_them(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert command.main(["--only", "host", "tcg", "--files", str(folder)]) == 1
    told = capsys.readouterr().err
    assert told.count("install it with `sudo apt-get install gcc libc6-dev`") == 2
    assert "nothing was measured" in told


def test_a_session_that_measured_nothing_leaves_the_last_record(folder: Path) -> None:
    record = folder / "build" / "bench.json"
    record.parent.mkdir()
    record.write_text("the last one")
    assert command.main(["--only", "host", "--files", str(folder)]) == 1
    assert record.read_text() == "the last one"


def test_a_skipped_peer_is_in_the_record(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "busybox").symlink_to("/bin/true")
    monkeypatch.setattr(peers, "QEMU", "no-such-program")
    assert command.main(["--runs", "1", "--only", "host", "tcg", "--files", str(folder)]) == 0
    skipped = json.loads((folder / "build" / "bench.json").read_text())["skipped"]
    assert skipped == {"tcg": "install it with `sudo apt-get install qemu-system-x86`"}


def test_a_file_that_cannot_be_had_skips_its_peer_only(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--only", "host", "--files", str(folder)]) == 1
    assert "has no file busybox" in capsys.readouterr().err
