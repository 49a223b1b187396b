"""What one client, and all of them together, may take of xend. Times are seconds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    unix_connections: int = 512
    tcp_connections: int = 256
    refusals: int = 32
    """Connections beyond these numbers that are told so at leisure; further ones at once or not at all."""
    head_bytes: int = 64 * 1024
    body_bytes: int = 1024 * 1024
    handshake_s: float = 10.0
    head_s: float = 10.0
    body_s: float = 30.0
    idle_s: float = 75.0
    """Between two requests of one connection."""
    stuck_s: float = 30.0
    """How long a client may take nothing of what is ready for it."""
    linger_s: float = 2.0
    """How long the rest of a refused body is thrown away, so that the client sees the refusal and no broken pipe."""
    grace_s: float = 5.0
    """What changes under way get when xend closes."""
    comment_s: float = 15.0
    """Between two signs of life in a stream of events."""
