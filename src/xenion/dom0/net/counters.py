"""What a vif has carried, from the guest's side: `tx` is what the guest sent, as xentop's NETTX counts it."""

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Counters:
    """Bytes are of frames without checksum and preamble; a GSO frame is one packet."""

    tx_bytes: int = 0
    tx_packets: int = 0
    tx_drops: int = 0
    """Sent by the guest and not carried: spoofed, or the wire was gone."""
    tx_errors: int = 0
    """Sent by the guest and unusable: bad slots, grants or headers."""
    rx_bytes: int = 0
    rx_packets: int = 0
    rx_drops: int = 0
    """For the guest and not taken: not connected, stalled, filtered, or too big for it."""
    rx_errors: int = 0
    """For the guest, and unusable or refused by its grants."""

    def as_dict(self) -> dict[str, int]:
        return asdict(self)
