"""Samples become shares, and rows in the order that was asked for."""

import pytest

from tests.unit.xm.fake_xend import INFO, domain, host, vcpu
from xenion.xm.usage import HEADER, Usage


def sample(web: float, mail: float) -> list[dict[str, object]]:
    return [
        host(cpu_seconds=100.0),
        domain("web", 2, cpu_seconds=web, memory_mib=256),
        domain("mail", 1, cpu_seconds=mail),
    ]


@pytest.fixture
def usage() -> Usage:
    made = Usage()
    made.take(sample(10.0, 50.0), [], 1000.0)
    made.take(sample(11.0, 51.5), [], 1002.0)
    return made


def names(usage: Usage) -> list[str]:
    return [row.domain["name"] for row in usage.rows]


def test_shares_are_of_the_time_between_samples(usage: Usage) -> None:
    shares = {row.domain["name"]: (row.cpu_percent, row.memory_percent) for row in usage.rows}
    assert shares == {"web": (50.0, 25.0), "mail": (75.0, 12.5), "Domain-0": (0.0, 100.0)}


def test_a_domain_that_booted_again_uses_no_less_than_nothing(usage: Usage) -> None:
    usage.take(sample(0.1, 51.5), [], 1003.0)
    assert {row.cpu_percent for row in usage.rows} == {0.0}


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("name", ["Domain-0", "mail", "web"]),
        ("cpu", ["mail", "web", "Domain-0"]),
        ("memory", ["Domain-0", "web", "mail"]),
        ("time", ["Domain-0", "mail", "web"]),
        ("id", ["Domain-0", "mail", "web"]),
    ],
)
def test_orders(usage: Usage, sort: str, order: list[str]) -> None:
    usage.sort = sort
    usage.order()
    assert names(usage) == order
    usage.reverse = True
    usage.order()
    assert names(usage) == order[::-1]


def test_rows_fit_their_header() -> None:
    usage = Usage()
    usage.take([domain("a" * 40, None, uptime_seconds=None), domain("b\x1b")], [vcpu()], 0.0)
    assert {len(row.text) for row in usage.rows} == {len(HEADER)}
    assert usage.rows[0].text.startswith("a" * 23 + "~ ")
    assert usage.rows[1].text.startswith("b\\x1b ")
    assert usage.rows[1].vcpus == ["  VCPU   0   running       5.0s on CPU 1"]


def test_traffic_where_it_is_known() -> None:
    usage, traffic = Usage(sort="name"), {"vbds": 1, "vbd_rd": 20, "vbd_wr": 300, "nets": 2}
    traffic |= {"net_tx_bytes": 2047, "net_rx_bytes": 1 << 20}
    usage.take([domain("a", traffic=traffic), domain("b")], [], 0.0)
    assert [row.text.split()[9:] for row in usage.rows] == [["1", "20", "300", "2", "1", "1024"], ["-"] * 6]
    assert {len(row.text) for row in usage.rows} == {len(HEADER)}


def test_the_summary(usage: Usage) -> None:
    assert usage.summary(INFO) == [
        "xm top - Xenion 0.1.0 on box, software processor",
        "3 domains: 3 running",
        "Memory: 4096 MiB, 1000 MiB free for domains; CPUs: 2",
    ]
