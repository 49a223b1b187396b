"""Running the host's programs: found even where a user's PATH has no sbin, ended with us, heard line by line."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from xenion.images.failure import RootDiskError

_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_TAIL_BYTES = 4000
_END_S = 30.0


class ProgramError(RootDiskError):
    """A program has failed."""


def search_path() -> str:
    """PATH, with the folders of Debian's administration tools behind it."""
    given = os.environ.get("PATH", os.defpath).split(":")
    return ":".join([*given, *(folder for folder in _SBIN if folder not in given)])


def find(program: str) -> str | None:
    """The path of an executable, or None."""
    return shutil.which(program, path=search_path())


def environment(**more: str) -> dict[str, str]:
    """Ours with messages in English; `more` wins."""
    return {**os.environ, "LC_ALL": "C", "PATH": search_path(), **more}


def run(
    command: Sequence[str], *, folder: Path, given: bytes = b"", more: Mapping[str, str] | None = None
) -> str:
    """What `command`, run in `folder`, says on stdout. ProgramError with its last words if its status is not 0."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(**(more or {})),
        input=given,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        words = (done.stderr or done.stdout)[-_TAIL_BYTES:].decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(words) if line.strip()), f"status {done.returncode}")
        raise ProgramError(f"{Path(command[0]).name} has failed: {last}")
    return done.stdout.decode(errors="replace")


def follow(
    command: Sequence[str],
    *,
    folder: Path,
    on_line: Callable[[str], None],
    more: Mapping[str, str] | None = None,
    descriptors: Sequence[int] = (),
    tidies: bool = True,
) -> int:
    """Runs `command` and gives each line of its output to `on_line`; its status.

    `descriptors` stay open in it. Whatever ends this call early, an interruption too, ends the program first and waits
    for it: kindly if it `tidies` up, else at once. It is killed as well when this process is killed.
    """
    with subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *command],
        cwd=folder,
        env=environment(**(more or {})),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=descriptors,
        process_group=0,  # a ctrl-C is ours to pass on
        encoding="utf-8",
        errors="replace",
    ) as process:
        try:
            for line in process.stdout or ():
                on_line(line.rstrip("\n"))
        except BaseException:
            _end(process, (signal.SIGTERM, signal.SIGKILL) if tidies else (signal.SIGKILL,))
            raise
    return process.returncode


def _end(process: subprocess.Popen[str], signals: Sequence[signal.Signals]) -> None:
    """Of the whole group."""
    for number in signals:
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            # What it still says is read, or it would wait for us.
            process.communicate(timeout=_END_S)
        except subprocess.TimeoutExpired:
            continue
        return
