"""The record of a session: what was measured, on which machine, with which versions; build/bench.json."""

import json
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from benches.peers import QEMU
from benches.rows import BY_NAME
from benches.targets import judge

FORMAT = 1


@dataclass(frozen=True)
class Measured:
    """One run of one peer: row -> value in the row's unit, and why it is no good if it is not."""

    peer: str
    run: int
    values: Mapping[str, float]
    failure: str | None
    log: str


@dataclass
class Session:
    """Everything of one session. A run that failed is recorded, and counts in no median."""

    runs: list[Measured] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, str | int | float] = field(default_factory=dict)

    def samples(self) -> dict[str, dict[str, list[float]]]:
        """Row -> peer -> the values of the runs that went well, in the order of the runs."""
        table: dict[str, dict[str, list[float]]] = {}
        for measured in self.runs:
            if measured.failure is None:
                for row, value in measured.values.items():
                    table.setdefault(row, {}).setdefault(measured.peer, []).append(value)
        return table

    def medians(self) -> dict[str, dict[str, float]]:
        """Row -> peer -> median."""
        return {
            row: {peer: statistics.median(values) for peer, values in peers.items()}
            for row, peers in self.samples().items()
        }

    def failures(self) -> list[Measured]:
        """The runs that did not go well."""
        return [measured for measured in self.runs if measured.failure is not None]


def spread(values: Iterable[float]) -> float:
    """Half of the distance between the extremes, as a share of the median."""
    known = list(values)
    return (max(known) - min(known)) / 2 / statistics.median(known)


def as_json(session: Session, date: datetime) -> str:
    """The record as one JSON document."""
    medians = session.medians()
    document = {
        "format": FORMAT,
        "date": date.isoformat(timespec="seconds"),
        "machine": session.machine,
        "versions": session.versions,
        "units": {row: BY_NAME[row].unit for row in medians},
        "runs": [asdict(measured) | {"values": dict(measured.values)} for measured in session.runs],
        "medians": medians,
        "targets": [asdict(v.target) | {"measured": v.measured, "met": v.met} for v in judge(medians)],
        "skipped": session.skipped,
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def save(session: Session, path: Path) -> None:
    """Write the record of a session that ended just now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(as_json(session, datetime.now(UTC)))


def this_machine() -> dict[str, str | int | float]:
    """The processor's model, how many cores this process may use, the kernel, and how busy it is now."""
    models = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "load_1min": os.getloadavg()[0],
    }


def host_versions() -> dict[str, str]:
    """Versions of what the peers are made of, as far as they are installed."""
    versions = {"python": platform.python_version()}
    try:
        versions["xenion"] = metadata.version("xenion")
    except metadata.PackageNotFoundError:
        versions["xenion"] = "not installed"
    qemu = _first_line([QEMU, "--version"])
    return versions | ({"qemu": qemu} if qemu else {})


def _first_line(argv: list[str]) -> str | None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"{argv[0]}: {error}", file=sys.stderr)
        return None
    return done.stdout.partition("\n")[0].strip() or None
