"""Debian's apt with a private state: the system's sources and keys, but nothing installed and no root.

apt itself checks the signatures of the package lists and the hash of every package against them.
"""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]{1,127}")
"""A package's name, as Debian Policy 5.6.1 has it (with a limit on its length)."""

_DEB = re.compile(r"[a-z0-9][a-z0-9+.-]*_[A-Za-z0-9+.~%-]+_[a-z0-9-]+\.deb")
_LISTS_LAST = 3600  # seconds for which fetched package lists are taken as current

# A private state has its own package status too: empty, so that what is installed here changes no choice.
# The hooks cleared here would touch the system's own caches.
_CONFIG = """\
Dir::State "{root}/state";
Dir::State::status "{root}/status";
Dir::Cache "{root}/cache";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
Dir::Log "{root}/log";
APT::Sandbox::User "{user}";
APT::Architecture "amd64";
#clear APT::Architectures;
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Languages "none";
Acquire::IndexTargets::deb-src::Sources::DefaultEnabled "false";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::Retries "2";
Acquire::http::Timeout "60";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"""


class AptError(Exception):
    """apt cannot deliver a package."""


class Apt:
    """apt-get with everything it writes under `root`; every call may raise AptError."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._config = root / "apt.conf"
        self._fetched = root / "fetched"
        self._trouble = ""

    def has_lists(self) -> bool:
        """Whether package lists are here that were fetched not long ago."""
        try:
            age = time.time() - self._fetched.stat().st_mtime
        except FileNotFoundError:
            return False
        return 0 <= age < _LISTS_LAST

    def update(self) -> None:
        """Fetches the package lists anew.

        A source that cannot be reached is no error yet, since another may hold what is wanted: it is told
        when a package is not found.
        """
        # Without the old lists, a package that is found is one that its source offers now.
        shutil.rmtree(self._root, ignore_errors=True)
        for name in ("state/lists/partial", "cache/archives/partial", "log"):
            (self._root / name).mkdir(parents=True)
        (self._root / "status").touch()
        user = "root" if os.geteuid() == 0 else ""
        self._config.write_text(_CONFIG.format(root=self._root, user=user))
        result = self._run("apt-get", "update")
        self._trouble = _complaint(result.stderr)
        if not self._trouble:
            self._fetched.touch()

    def depends(self, package: str) -> list[str]:
        """The names of the packages that the newest `package` depends on, without their alternatives."""
        _check(package)
        shown = self._run("apt-cache", "show", "--no-all-versions", package)
        if shown.returncode != 0:
            raise self._missing(package, shown.stderr)
        lines = [line for line in shown.stdout.splitlines() if line.startswith("Depends:")]
        wanted = lines[0].removeprefix("Depends:").split(",") if lines else []
        names = [match[0] for item in wanted if (match := PACKAGE.match(item.strip()))]
        return list(dict.fromkeys(names))

    def file_name(self, package: str) -> str:
        """The name of the .deb file of the newest `package`, which tells its version and architecture."""
        _check(package)
        shown = self._run("apt-get", "download", "--print-uris", package)
        words = shown.stdout.split()
        if shown.returncode != 0 or len(words) < 2:
            raise self._missing(package, shown.stderr)
        if not _DEB.fullmatch(words[1]) or not words[1].startswith(package + "_"):
            raise AptError(f"apt names a file {words[1]!r} for package {package}: no .deb file is named so.")
        return words[1]

    def download(self, package: str, into: Path) -> Path:
        """Downloads the newest `package` into the folder `into`; the path of its .deb file."""
        path = into / self.file_name(package)
        result = self._run("apt-get", "download", package, folder=into)
        if result.returncode != 0 or not path.is_file():
            raise AptError(
                f"apt cannot download package {package}: {_complaint(result.stderr) or 'no file came'}."
            )
        return path

    def _run(
        self, program: str, verb: str, *arguments: str, folder: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = [program, "-c", str(self._config), "-qq", verb, *arguments]
        environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
        try:
            return subprocess.run(
                command,
                cwd=folder or self._root,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                check=False,
            )
        except FileNotFoundError as error:
            raise AptError(
                f"There is no {program} here, and images are taken from Debian by apt: "
                "name a kernel file of your own instead."
            ) from error

    def _missing(self, package: str, stderr: str) -> AptError:
        reason = self._trouble or _complaint(stderr)
        because = f" ({reason})" if reason else ""
        return AptError(f"The apt sources of this system offer no package {package}{because}.")


def _check(package: str) -> None:
    if not PACKAGE.fullmatch(package):
        raise AptError(f"{package!r} is no Debian package's name.")


def _complaint(stderr: str) -> str:
    """The first error of apt's output, else its first warning, without its mark and its final dot."""
    lines = [line.strip() for line in stderr.splitlines()]
    for mark in ("E: ", "W: "):
        for line in lines:
            if line.startswith(mark):
                return line.removeprefix(mark).rstrip(".")
    return ""
