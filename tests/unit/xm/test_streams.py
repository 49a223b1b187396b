"""What xend is given instead of standard input, standard output and pipes."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.descriptors import descriptors
from xenion.api.errors import ApiError
from xenion.domain.saved import format as saved
from xenion.xm import streams
from xenion.xm.errors import UsageError, XmError
from xenion.xm.streams import MAGIC, Place, to_read, to_write

Opened = Callable[[str], AbstractContextManager[Place]]


@pytest.fixture(autouse=True)
def nothing_is_left_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.delenv("XEND_URL", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = descriptors()
    yield
    assert set(descriptors()) <= set(before)


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@pytest.fixture
def standard(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """A pipe that is standard input and output: where it is written and read."""
    reads, writes = os.pipe()
    monkeypatch.setattr(streams, "STDIN", reads)
    monkeypatch.setattr(streams, "STDOUT", writes)
    yield writes, reads
    os.close(reads)


@pytest.mark.parametrize("opened", [to_read, to_write])
def test_a_file_is_a_file(opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its whole name; it need not be there."""
    monkeypatch.chdir(tmp_path)
    with opened("here") as place:
        assert place == Place(str(tmp_path / "here"), str(tmp_path / "here"))


def test_what_comes_in_is_taken_in_whole(standard: tuple[int, int]) -> None:
    content = os.urandom(3 << 20)

    def write() -> None:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(standard[0], rest) :]
        os.close(standard[0])

    writer = threading.Thread(target=write)
    writer.start()
    with to_read("-") as place:
        assert place.name == "standard input"
        assert Path(place.path).read_bytes() == content
        assert Path(place.path).read_bytes() == content, "it is read from its beginning each time"
    writer.join()


def test_a_saved_domain_is_known() -> None:
    assert MAGIC == saved.MAGIC


@pytest.mark.parametrize("read", [0, 2])
def test_standard_input_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: int) -> None:
    """xend opens it itself, unless somebody has read some of it."""
    path = tmp_path / "file"
    path.write_bytes(b"saved")
    with path.open("rb", buffering=0) as file:
        monkeypatch.setattr(streams, "STDIN", file.fileno())
        file.read(read)
        with to_read("-") as place:
            assert (place.name, place.standard) == ("standard input", True)
            assert Path(place.path).read_bytes() == b"saved"[read:]
            assert (Path(place.path).resolve() == path) is (read == 0)
    assert list(tmp_path.iterdir()) == [path], "it stays, and nothing else does"


def test_what_goes_on_is_not_kept(standard: tuple[int, int], tmp_path: Path) -> None:
    os.write(standard[0], MAGIC)
    os.close(standard[0])
    with to_read("-") as place:
        assert Path(place.path).parent == tmp_path
        assert Path(place.path).stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [ApiError("refused", "its disk has changed"), KeyboardInterrupt()])
@pytest.mark.parametrize("content", [MAGIC + b"more", b"something else", b""])
def test_what_does_not_go_on_is_kept(
    standard: tuple[int, int],
    tmp_path: Path,
    error: BaseException,
    content: bytes,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Who sent it may have no other; what is no saved domain is nothing to keep."""
    os.write(standard[0], content)
    os.close(standard[0])
    with pytest.raises(type(error)), to_read("-"):
        raise error
    told = capsys.readouterr().err
    if content.startswith(MAGIC):
        (kept,) = tmp_path.iterdir()
        assert kept.read_bytes() == content
        assert told == f"xm: what came is kept: it is in {kept}\n"
    else:
        assert (list(tmp_path.iterdir()), told) == ([], "")


def test_interrupted_while_it_comes(
    standard: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(fd: int, data: bytes) -> None:
        raise KeyboardInterrupt

    os.write(standard[0], MAGIC)
    os.close(standard[0])
    monkeypatch.setattr(streams, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt), to_read("-"):
        raise AssertionError
    assert list(tmp_path.iterdir()) == []


def test_input_that_does_not_block(standard: tuple[int, int]) -> None:
    """There is more to come as long as the other end is open."""
    os.set_blocking(standard[1], False)

    def later() -> None:
        for piece in (b"sa", b"ved"):
            os.write(standard[0], piece)
        os.close(standard[0])

    writer = threading.Timer(0.1, later)
    writer.start()
    with to_read("-") as place:
        assert Path(place.path).read_bytes() == b"saved"
    writer.join()


@pytest.mark.parametrize("word", ["-", "other name"])
def test_another_name_of_standard_output(standard: tuple[int, int], word: str) -> None:
    given = word if word == "-" else f"/dev/fd/{standard[0]}"
    with to_write(given) as place:
        assert (place.name, place.standard) == ("standard output", True)
    os.close(standard[0])


def test_a_file_that_we_have_open(tmp_path: Path) -> None:
    """xend has something else open by that number."""
    path = tmp_path / "file"
    with path.open("wb") as file, to_write(f"/dev/fd/{file.fileno()}") as place:
        assert place == Place(str(path), str(path))


def test_output_that_xend_cannot_open(monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = socket.socketpair()
    with near, far:
        monkeypatch.setattr(streams, "STDOUT", near.fileno())
        with pytest.raises(UsageError, match="no pipe and no file"), to_write("-"):
            raise AssertionError


def test_nothing_is_taken_in_for_a_xend_elsewhere(
    standard: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XEND_URL", "https://there:9")
    os.write(standard[0], b"saved")
    with pytest.raises(UsageError, match="standard input: the xend of XEND_URL"), to_read("-"):
        raise AssertionError
    assert os.read(standard[1], 10) == b"saved"
    os.close(standard[0])


@pytest.mark.parametrize("error", [BrokenPipeError("gone"), OSError(5, "Input/output error")])
def test_what_goes_wrong_elsewhere(standard: tuple[int, int], error: OSError) -> None:
    os.close(standard[0])
    with pytest.raises(type(error), match=str(error.args[-1])), to_read("-"):
        raise error


def test_no_folder_is_said(standard: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "")
    os.close(standard[0])
    with to_read("-") as place:
        assert place.path.startswith("/var/tmp/xenion-")


def test_a_pipe_with_a_name(fifo: Path) -> None:
    writer = threading.Thread(target=lambda: fifo.write_bytes(b"saved"))
    writer.start()
    with to_read(str(fifo)) as place:
        assert (Path(place.path).read_bytes(), place.name) == (b"saved", str(fifo))
    writer.join()


def test_a_pipe_to_write(fifo: Path) -> None:
    """Somebody reads it by then, and goes on until we have closed it, too."""
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_bytes()))
    reader.start()
    with to_write(str(fifo)) as place:
        assert place.name == str(fifo)
        Path(place.path).write_bytes(b"sa")
        Path(place.path).write_bytes(b"ved")
        assert read == []
    reader.join()
    assert read == [b"saved"]


def test_standard_output(standard: tuple[int, int]) -> None:
    with to_write("-") as place:
        assert place == Place(f"/proc/{os.getpid()}/fd/{standard[0]}", "standard output", standard=True)
        Path(place.path).write_bytes(b"saved")
    os.close(standard[0])
    assert os.read(standard[1], 10) == b"saved"


@pytest.mark.parametrize("content", ["", "something", "deleted"])
def test_standard_output_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    """What is in it would be gone."""
    path = tmp_path / "out"
    with path.open("w") as file:
        monkeypatch.setattr(streams, "STDOUT", file.fileno())
        if content == "deleted":
            path.unlink()
        else:
            file.write(content)
            file.flush()
        if content:
            with (
                pytest.raises(UsageError, match="a file that has something in it, or no name"),
                to_write("-"),
            ):
                raise AssertionError
        else:
            with to_write("-") as place:
                assert Path(place.path).resolve() == path


@pytest.mark.parametrize("opened", [to_read, to_write])
def test_a_terminal(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = os.openpty()
    monkeypatch.setattr(streams, "STDIN", far)
    monkeypatch.setattr(streams, "STDOUT", far)
    with pytest.raises(UsageError, match="is a terminal"), opened("-"):
        raise AssertionError
    os.close(near)
    os.close(far)


def test_what_xend_says(standard: tuple[int, int]) -> None:
    """It knows another name than the user."""
    with pytest.raises(ApiError, match=r"^standard output: it is gone$") as caught, to_write("-") as place:
        raise ApiError("refused", f"{place.path}: it is gone")
    assert caught.value.code == "refused"
    os.close(standard[0])


def test_a_xend_elsewhere(standard: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """It would open what somebody else has open there."""
    monkeypatch.setenv("XEND_URL", "https://there:9")
    with pytest.raises(UsageError, match="standard output: the xend of XEND_URL"), to_write("-"):
        raise AssertionError
    os.close(standard[0])


def test_no_room_for_what_comes(standard: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    os.write(standard[0], b"saved")
    os.close(standard[0])
    monkeypatch.setenv("TMPDIR", "/nowhere")
    with pytest.raises(XmError, match=r"^/nowhere: No such file"), to_read("-"):
        raise AssertionError


def test_a_full_disk(standard: tuple[int, int]) -> None:
    os.write(standard[0], b"saved" * 1000)
    os.close(standard[0])
    code = """
import resource, signal, sys
from xenion.xm.errors import XmError
from xenion.xm.streams import to_read
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with to_read("-"):
        pass
except XmError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], stdin=standard[1], capture_output=True, text=True, check=True
    )
    assert "TMPDIR says where there is room for what comes from standard input" in done.stdout, done.stderr


def test_what_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    monkeypatch.setattr(streams, "STDIN", folder)
    with pytest.raises(XmError, match="Is a directory"), to_read("-"):
        raise AssertionError
    os.close(folder)
