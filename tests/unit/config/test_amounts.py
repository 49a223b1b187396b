import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.config.attempts import attempt
from xenion.config.amounts import amount, count, rate
from xenion.config.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("512", 512), ("10K", 10240), ("10M", 10 << 20), ("3G", 3 << 30), ("1T", 1 << 40)],
)
def test_amounts(text: str, value: int) -> None:
    assert amount("limit-bytes", text) == value


@pytest.mark.parametrize(
    "text", ["", "M", "-1", "1.5M", "10m", "10MB", "1 M", "9007199254740993", "9999999T", "\u0661"]
)
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(
        ConfigError, match="limit-bytes must be a number of bytes, or of K, M, G or T"
    ) as caught:
        amount("limit-bytes", text)
    assert caught.value.key == "limit-bytes"


def test_counts() -> None:
    assert count("queues", "12") == 12
    for text in ("", "-1", "1K", "0x1", "9" * 17, "\u0661"):
        with pytest.raises(ConfigError, match="queues must be a whole number from 0 on"):
            count("queues", text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("10Mb/s", (1_250_000, None)),
        ("10Mb/s@50ms", (1_250_000, 50_000)),
        ("250KB/s", (250_000, None)),
        ("1MB/s@20ms", (1_000_000, 20_000)),
        ("1GB/s@20m", (1_000_000_000, 20_000)),
        ("8b/s@5u", (1, 5)),
        ("100B/s@7us", (100, 7)),
        ("1MB/s@2s", (1_000_000, 2_000_000)),
        ("0B/s@9us", (0, 9)),
    ],
)
def test_rates(text: str, found: tuple[int, int | None]) -> None:
    assert rate("rate", text) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "10Mb",
        "10Mb/",
        "/s",
        "-1MB/s",
        "1mB/s",
        "1TB/s",
        "1MB/s@",
        "1MB/s@20",
        "1MB/s@20h",
        "1b/s",
        "9999999999999GB/s",
    ],
)
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rate("rate", text)
    assert caught.value.key == "rate"


@given(st.text() | st.from_regex(r"[0-9]{1,20}[GMKT]?[Bb]?(/s)?(@[0-9]{1,20}[mu]?s?)?", fullmatch=True))
def test_random_text_raises_nothing_else(text: str) -> None:
    attempt(lambda: amount("key", text), "key")
    attempt(lambda: count("key", text), "key")
    attempt(lambda: rate("key", text), "key")
