"""What `xm top` shows, without a terminal: samples in, rows of text out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from xenion.xm.output import duration, escaped

HEADER = (
    f"{'NAME':<24} {'ID':>5} {'STATE':>8} {'CPU(sec)':>9} {'CPU(%)':>7} {'MEM(MiB)':>9} {'MEM(%)':>7} "
    f"{'VCPUS':>5} {'UPTIME':>17} {'VBDS':>4} {'VBD_RD':>9} {'VBD_WR':>9} {'NETS':>4} {'NETTX(k)':>9} {'NETRX(k)':>9}"
)
NAME_COLUMNS = 24
TRAFFIC = (
    ("vbds", 4, 1),
    ("vbd_rd", 9, 1),
    ("vbd_wr", 9, 1),
    ("nets", 4, 1),
    ("net_tx_bytes", 9, 1024),
    ("net_rx_bytes", 9, 1024),
)
"""Fields of a domain's traffic, the widths of their columns, and what they are divided by."""
SORTS = {"n": "name", "c": "cpu", "m": "memory", "t": "time", "i": "id"}
"""Keys of the keyboard."""


@dataclass(frozen=True, slots=True)
class Row:
    """One domain in one sample. `cpu_percent` is since the sample before, of one host CPU."""

    domain: Any
    cpu_percent: float
    memory_percent: float
    vcpus: Sequence[str] = ()

    @property
    def text(self) -> str:
        domain = self.domain
        name = escaped(domain["name"])
        domid = "-" if domain["domid"] is None else domain["domid"]
        uptime = "-" if domain["uptime_seconds"] is None else duration(domain["uptime_seconds"])
        return (
            f"{name if len(name) <= NAME_COLUMNS else name[: NAME_COLUMNS - 1] + '~':<{NAME_COLUMNS}} "
            f"{domid:>5} {domain['state']:>8} {domain['cpu_seconds']:>9.1f} {self.cpu_percent:>7.1f} "
            f"{domain['memory_mib']:>9} {self.memory_percent:>7.1f} {domain['vcpus']:>5} {uptime:>17} "
            f"{_traffic_text(domain.get('traffic'))}"
        )


@dataclass(slots=True)
class Usage:
    """The samples so far and how they are to be shown."""

    sort: str = "cpu"
    reverse: bool = False
    rows: list[Row] = field(default_factory=list)
    _before: dict[str, float] = field(default_factory=dict)
    _taken_at: float = 0.0

    def take(self, domains: Sequence[Any], vcpus: Sequence[Any], now: float) -> None:
        """A sample of the API's `list` at the monotonic time `now`; `vcpus` of domains whose rows show them."""
        total = sum(domain["memory_mib"] for domain in domains if domain["domid"] == 0)
        elapsed = now - self._taken_at if self._before else 0.0
        self.rows = [
            Row(
                domain,
                self._percent(domain, elapsed),
                100 * domain["memory_mib"] / total if total else 0.0,
                [_vcpu_text(vcpu) for vcpu in vcpus if vcpu["domid"] == domain["domid"]],
            )
            for domain in domains
        ]
        self._before = {domain["uuid"]: domain["cpu_seconds"] for domain in domains}
        self._taken_at = now
        self.order()

    def _percent(self, domain: Any, elapsed: float) -> float:
        """A domain that is new has no share yet; one that booted again begins anew."""
        before = self._before.get(domain["uuid"], domain["cpu_seconds"])
        return max(100 * (domain["cpu_seconds"] - before) / elapsed, 0.0) if elapsed > 0 else 0.0

    def order(self) -> None:
        """Figures: the largest first; names and ids: the smallest."""
        keys = {
            "name": lambda row: row.domain["name"],
            "cpu": lambda row: -row.cpu_percent,
            "memory": lambda row: -row.domain["memory_mib"],
            "time": lambda row: -row.domain["cpu_seconds"],
            "id": lambda row: 1 << 16 if row.domain["domid"] is None else row.domain["domid"],
        }
        self.rows.sort(key=lambda row: str(row.domain["name"]))
        self.rows.sort(key=keys[self.sort], reverse=self.reverse)

    def summary(self, info: Any) -> list[str]:
        """The lines above the table."""
        counted: dict[str, int] = {}
        for row in self.rows:
            counted[row.domain["state"]] = counted.get(row.domain["state"], 0) + 1
        states = ", ".join(f"{count} {state}" for state, count in sorted(counted.items()))
        return [
            escaped(
                f"xm top - Xenion {info['xenion_version']} on {info['host']}, {info['processor']} processor"
            ),
            f"{len(self.rows)} domains: {states}",
            f"Memory: {info['total_memory_mib']} MiB, {info['free_memory_mib']} MiB free for domains; "
            f"CPUs: {info['nr_cpus']}",
        ]


def _traffic_text(traffic: Any) -> str:
    """As xentop has it: requests, and KiB."""
    return " ".join(
        f"{'-' if traffic is None else traffic[name] // unit:>{width}}" for name, width, unit in TRAFFIC
    )


def _vcpu_text(vcpu: Any) -> str:
    cpu = "-" if vcpu["cpu"] is None else vcpu["cpu"]
    return f"  VCPU {vcpu['vcpu']:>3}  {vcpu['state']:>8} {vcpu['cpu_seconds']:>9.1f}s on CPU {cpu}"
