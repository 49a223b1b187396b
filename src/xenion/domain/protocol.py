"""What a domain process tells whoever started it: JSON lines on its control descriptor, nothing else."""

import json
from dataclasses import asdict, dataclass
from typing import Literal

Kind = Literal["running", "refused", "note", "ended"]


@dataclass(frozen=True, slots=True)
class Event:
    """`running`: the guest is about to run. `refused`: `text` says why it never did. `note`: `text` for people.
    `ended`: `reason` is poweroff, reboot, suspend or crash; `report` its file; `action` what was configured for it."""

    kind: Kind
    text: str = ""
    reason: str = ""
    report: str = ""
    action: str = ""

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> "Event":
        return cls(**json.loads(line))
