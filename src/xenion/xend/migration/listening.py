"""Where other hosts' xends come in: [migration] of xend.toml."""

import asyncio
import ipaddress
import logging
from contextlib import suppress

from xenion.xend.migration.incoming import Incoming
from xenion.xend.migration.tls import server_context
from xenion.xend.migration.wire import CHUNK_BYTES, Wire
from xenion.xend.settings import Migration

MOST_CONNECTIONS = 32
HANDSHAKE_S = 10.0
_logger = logging.getLogger(__name__)


class Listening:
    def __init__(self, settings: Migration, incoming: Incoming) -> None:
        self._settings = settings
        self._incoming = incoming
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """OSError."""
        host, port = self._settings.host, self._settings.port
        if port:
            tls = server_context(self._settings)
            patience = HANDSHAKE_S if tls else None
            self._server = await asyncio.start_server(
                self._serve, host, port, ssl=tls, ssl_handshake_timeout=patience, limit=2 * CHUNK_BYTES
            )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = (writer.get_extra_info("peername") or ("",))[0]
        if not address or not self._allowed(address) or len(self._serving) >= MOST_CONNECTIONS:
            _logger.warning(
                "a migration from %s is refused: [migration] allow does not have it, or too many", address
            )
            writer.close()
            return
        task = asyncio.ensure_future(self._incoming.serve(Wire(reader, writer), f"host {address}"))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    def _allowed(self, address: str) -> bool:
        """By TLS alone if nothing else is said."""
        found = ipaddress.ip_address(address.partition("%")[0])
        mapped = getattr(found, "ipv4_mapped", None)
        found = mapped or found
        allow = self._settings.allow
        return not allow or any(found in network for network in allow)

    async def close(self) -> None:
        """What is still coming never arrives."""
        if self._server is not None:
            self._server.close()
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)
        with suppress(OSError):
            if self._server is not None:
                await self._server.wait_closed()
