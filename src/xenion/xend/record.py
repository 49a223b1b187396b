"""What is written down about a running domain, in RUN/domains/UUID: enough to find it again after any end of xend.

    record.json    a Record
    lock           held by the domain's process for life
    control.sock, console.sock, journal    see xenion.domain

A folder comes and goes in one step (rename), so half a domain is never seen.
"""

import fcntl
import os
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from xenion.config.domain import DEFAULT_WEIGHT, DomainConfig
from xenion.xend.entries import DeviceEntry
from xenion.xend.storage import read_json, write_json

RECORD, LOCK, JOURNAL, CONTROL, CONSOLE = "record.json", "lock", "journal", "control.sock", "console.sock"
_UNFINISHED, _GONE = ".new-", ".gone-"


@dataclass(slots=True)
class Condition:
    """What the journal has told so far, through entry `n`."""

    n: int = 0
    state: str = "building"
    """building, running, paused, shutdown, crashed, dying"""
    reason: str = ""
    """Why the guest stopped last; empty while it runs."""
    action: str = ""
    echo: int = 0
    """The last round of what comes from another host that is here."""
    loaded: bool = False
    """All of what comes from another host is here."""
    boot: int = 0
    memory_mib: int = 0
    maxmem_mib: int = 0
    built_mib: int = 0
    vcpus: int = 0
    """Of the guest that runs, whatever is configured for its next boot; virtual CPUs as it was asked to have. What it
    was built for is xend's own word, the rest may have been told by its process."""
    started_at: float | None = None
    cpu_base: float = 0.0
    cpu_seconds: float = 0.0
    """Of a guest that has stopped."""
    report: str = ""
    core: str = ""
    """The names of the files in its logs' folder."""
    refusal: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Share:
    """Of the host's CPUs: what its configuration says at each boot, until it is changed."""

    weight: int = DEFAULT_WEIGHT
    cap: int = 0
    cpus: str = ""


def share_of(config: DomainConfig) -> Share:
    return Share(config.cpu_weight, config.cap, config.cpus)


@dataclass(slots=True)
class Record:
    """`name` is the domain's, `logs` the name of its logs' folder, which follows a rename a step later.

    `wants`: what is still to be done for it, words of the supervisor's; they and `condition` are as of the same entry
    of the journal. `successor`: the name that rename-restart gave away, with the UUID of who gets it. `parts`: files
    that are being written for it, which nobody finishes when xend is killed. `arriving`: the migration that brings it,
    until it runs here. `leaving`: where it may be already, see xenion.xend.migration.decided. `pid` and `began`: its
    process, see xenion.xend.process; 0 until it is started.
    """

    uuid: str
    domid: int
    name: str
    logs: str
    config: DomainConfig
    managed: bool = False
    lasting: bool = False
    """It is started again as the same domain: managed, or its configuration gives its UUID."""
    request: str = ""
    pid: int = 0
    began: int = 0
    successor: str = ""
    successor_uuid: str = ""
    wants: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    arriving: str = ""
    leaving: dict[str, Any] = field(default_factory=dict)
    devices: list[DeviceEntry] = field(default_factory=list)
    share: Share = Share()
    condition: Condition = field(default_factory=Condition)

    def want(self, what: str) -> None:
        """Wanted again while it is being done, it is done again."""
        if self.wants.count(what) < 2:
            self.wants.append(what)

    def entries_of(self, kind: str, devid: int) -> list[DeviceEntry]:
        """More than one while a CD-ROM drive changes its disc; the newest last."""
        return [entry for entry in self.devices if entry.key == (kind, devid)]

    def entry_of(self, kind: str, devid: int) -> DeviceEntry | None:
        """The oldest of that device."""
        return next(iter(self.entries_of(kind, devid)), None)

    def write(self, folder: Path) -> None:
        """OSError."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        values["config"] = self.config.to_mapping()
        values["devices"] = [entry.to_mapping() for entry in self.devices]
        values["share"] = asdict(self.share)
        values["condition"] = asdict(self.condition)
        write_json(folder / RECORD, values)

    @classmethod
    def read(cls, folder: Path) -> "Record":
        """OSError, ValueError."""
        values: dict[str, Any] = read_json(folder / RECORD)
        try:
            config = DomainConfig.from_mapping(values.pop("config"))
            devices = [DeviceEntry.from_mapping(entry) for entry in values.pop("devices")]
            condition = Condition(**values.pop("condition"))
            share = Share(**values.pop("share"))
            return cls(config=config, devices=devices, share=share, condition=condition, **values)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{folder / RECORD} is of another version of Xenion") from error


def lock(folder: Path) -> int | None:
    """The lock's descriptor if nobody else holds it. OSError."""
    fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def unfinished(domains: Path, uuid: str) -> Path:
    """A new folder that `finish` puts in place. OSError."""
    path = domains / f"{_UNFINISHED}{uuid}"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(mode=0o700)
    return path


def finish(path: Path) -> Path:
    return path.rename(path.with_name(path.name.removeprefix(_UNFINISHED)))


def discard(path: Path) -> None:
    """Takes a domain's folder away, finished or not; one that is gone is fine. OSError."""
    gone = path.with_name(f"{_GONE}{path.name}")
    for folder in (path, path.with_name(f"{_UNFINISHED}{path.name}")):
        shutil.rmtree(gone, ignore_errors=True)
        with suppress(FileNotFoundError):
            folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def folders(domains: Path) -> list[Path]:
    """Those of domains."""
    return [path for path in sorted(domains.iterdir()) if not path.name.startswith(".") and path.is_dir()]


def remnants(domains: Path) -> list[Path]:
    """What a killed xend has left half-made or half-removed."""
    return sorted(path for path in domains.iterdir() if path.name.startswith((_UNFINISHED, _GONE)))
