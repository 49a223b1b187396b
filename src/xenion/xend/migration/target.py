"""Where a domain goes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Target:
    """A xend that takes domains: at a port of its host, by TLS if so, or through ssh at that port of its loopback."""

    host: str
    port: int
    ssl: bool = False
    ssh: bool = False

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if ":" not in self.host else f"[{self.host}]:{self.port}"

    def to_mapping(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Target":
        """As in a record, which has more."""
        return cls(values["host"], values["port"], values["ssl"], values.get("ssh", False))
