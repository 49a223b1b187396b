"""Connections to other xends."""

import asyncio
import ssl

from xenion.xend.migration.ssh import through_ssh
from xenion.xend.migration.target import Target
from xenion.xend.migration.tls import client_context
from xenion.xend.migration.wire import CHUNK_BYTES, Wire, WireError
from xenion.xend.settings import Migration

CONNECT_S = 10.0


class Connector:
    def __init__(self, settings: Migration) -> None:
        self._settings = settings

    async def connect(self, target: Target) -> Wire:
        """Greeted. WireError."""
        if target.ssh:
            return await through_ssh(self._settings.ssh, target)
        try:
            context = client_context(self._settings) if target.ssl else None
            reader, writer = await asyncio.wait_for(
                asyncio.open_connection(target.host, target.port, ssl=context, limit=2 * CHUNK_BYTES),
                CONNECT_S,
            )
        except TimeoutError:
            raise WireError("it does not answer") from None
        except ssl.SSLError as error:
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
