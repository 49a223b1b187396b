"""Where a domain's files are: state under the XDG folders, or /var/lib for root."""

import os
from pathlib import Path


def state_folder() -> Path:
    """Not created here. XDG_STATE_HOME wins even for root, so that tests and users can choose."""
    if chosen := os.environ.get("XDG_STATE_HOME"):
        return Path(chosen) / "xenion"
    if os.geteuid() == 0:
        return Path("/var/lib/xenion")
    return Path.home() / ".local" / "state" / "xenion"


def domain_folder(name: str) -> Path:
    """The folder of a domain; `name` is a checked configuration's."""
    return state_folder() / "domains" / name
