"""Another user of the host."""

import os
import subprocess
from pathlib import Path

from tests.system.xm import ROOT, Xm, command


class Other:
    """Another user, with a xend of its own."""

    def __init__(self, ids: tuple[int, int], folder: Path) -> None:
        self.xm = Xm(folder)
        self.xm.environment["HOME"] = str(folder)
        self._ids = ids
        for path in (folder, folder / "state", folder / "run"):
            path.mkdir(mode=0o700, exist_ok=True)
            os.chown(path, *ids)

    def run(self, *words: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
        uid, gid = self._ids
        dropped = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
        return subprocess.run(
            [*dropped, *command(), *map(str, words)],
            env={**self.xm.environment, **environment},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
