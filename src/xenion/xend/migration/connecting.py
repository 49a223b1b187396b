"""Connections to other xends."""

import asyncio
import ssl as tls
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from xenion.xend.migration import ssh
from xenion.xend.migration.tls import client_context
from xenion.xend.migration.wire import CHUNK_BYTES, Wire, WireError
from xenion.xend.settings import Migration

CONNECT_S = 10.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where a domain goes."""

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
        return cls(values["host"], values["port"], values["ssl"], values.get("ssh", False))


class Connector:
    def __init__(self, settings: Migration) -> None:
        self._settings = settings

    async def connect(self, target: Target) -> Wire:
        """Greeted. WireError."""
        if target.ssh:
            return await ssh.connect(self._settings.ssh, target.host, target.port)
        try:
            context = client_context(self._settings) if target.ssl else None
            reader, writer = await asyncio.wait_for(
                asyncio.open_connection(target.host, target.port, ssl=context, limit=2 * CHUNK_BYTES),
                CONNECT_S,
            )
        except TimeoutError:
            raise WireError("it does not answer") from None
        except tls.SSLError as error:
            raise WireError(f"TLS: {error.reason or error}") from error
        except (OSError, ValueError) as error:  # ValueError: no host can have such a name
            why = getattr(error, "strerror", None) or error
            raise WireError(f"it cannot be reached ({why})") from error
        wire = Wire(reader, writer)
        try:
            await wire.greet()
        except BaseException:
            await wire.close()
            raise
        return wire
