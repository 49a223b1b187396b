"""Where xend keeps things: XDG folders for users, /run and /var/lib for root.

XDG_STATE_HOME wins even for root, so that tests and people can choose; the run folder goes with the state then.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from xenion.api.errors import UnreachableError


@dataclass(frozen=True, slots=True)
class Folders:
    """`run` does not outlive the host, `state` does. Neither is created here."""

    run: Path
    state: Path

    @property
    def socket(self) -> Path:
        """Where xend listens."""
        return self.run / "xend.sock"

    @property
    def lock(self) -> Path:
        """What the one xend of these folders holds; its process id is in it."""
        return self.run / "xend.lock"

    @property
    def domains(self) -> Path:
        """A folder for each running domain, by its UUID: record, sockets, journal."""
        return self.run / "domains"

    @property
    def xenstored(self) -> Path:
        """xenstored's own folder: its sockets, lock and log."""
        return self.run / "xenstored"

    @property
    def xenstore_socket(self) -> Path:
        """Where clients of the store connect (XENSTORED_PATH)."""
        return self.xenstored / "xenstored.sock"

    def helpers(self, uuid: str) -> Path:
        """Sockets of the programs that work for a running domain."""
        return self.run / "helpers" / uuid

    @property
    def managed(self) -> Path:
        """A file for each managed domain, by its UUID."""
        return self.state / "managed"

    @property
    def dumps(self) -> Path:
        """Core dumps that nobody gave a name."""
        return self.state / "dumps"

    def logs(self, name: str) -> Path:
        """Console log, crash reports and core dumps of the domain of this (checked) name."""
        return self.state / "domains" / name


def folders() -> Folders:
    """This user's. UnreachableError."""
    chosen = _chosen("XDG_STATE_HOME")
    if os.geteuid() == 0 and chosen is None:
        return Folders(Path("/run/xenion"), Path("/var/lib/xenion"))
    state = (chosen or _home("XDG_STATE_HOME") / ".local" / "state") / "xenion"
    runtime = _chosen("XDG_RUNTIME_DIR")
    return Folders(runtime / "xenion" if runtime is not None else state / "run", state)


def configuration_file() -> Path:
    """xend.toml of this user, or the system's for root. UnreachableError."""
    chosen = _chosen("XDG_CONFIG_HOME")
    if os.geteuid() == 0 and chosen is None:
        return Path("/etc/xenion/xend.toml")
    return (chosen or _home("XDG_CONFIG_HOME") / ".config") / "xenion" / "xend.toml"


def _chosen(name: str) -> Path | None:
    """What the environment says, if it is an absolute path: others are to be ignored."""
    path = Path(os.environ.get(name, ""))
    return path if path.is_absolute() else None


def _home(instead: str) -> Path:
    """UnreachableError: it is not known. `instead` can be set as well."""
    try:
        home = Path.home()
    except RuntimeError:
        home = Path()
    if not home.is_absolute():
        raise UnreachableError(f"your home directory is not known: set HOME or {instead}")
    return home
