"""xm as a process of its own, with pipes or a pseudo-terminal for its user."""

import subprocess
from pathlib import Path

from tests.system.terminal import Terminal
from tests.system.xm import ROOT, command

TIMEOUT_S = 30


class Process:
    """With pipes. What it printed is known once it has ended."""

    def __init__(self, *words: str | Path, stdin: int = subprocess.PIPE, shell: str = '"$@"') -> None:
        self.process = subprocess.Popen(
            ["sh", "-c", f"exec {shell}" if shell == '"$@"' else shell, "sh", *command(), *map(str, words)],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def type(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def read(self, count: int) -> bytes:
        assert self.process.stdout is not None
        return self.process.stdout.read(count)

    def finish(self) -> tuple[int, bytes, str]:
        """Says no more; the exit status, the rest of the output, what was complained of."""
        try:
            out, err = self.process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        return self.process.returncode, out, err.decode()


def terminal(*words: str | Path) -> Terminal:
    import os

    return Terminal([*command(), *map(str, words)], {**os.environ, "TERM": "xterm"}, ROOT)
