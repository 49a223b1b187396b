from pathlib import Path

import pytest

from xenion.config.domain import DomainConfig
from xenion.config.keys import KEYS, Key, Status, reference, suggestion
from xenion.config.resolve import resolve
from xenion.config.xmfile import parse

DOCUMENT = Path(__file__).parents[3] / "docs" / "config.md"


def test_the_document_contains_the_table() -> None:
    assert reference() in DOCUMENT.read_text()


def test_the_documents_sample_is_what_it_says() -> None:
    sample = DOCUMENT.read_text().partition("```python\n")[2].partition("```")[0]
    config = resolve(parse(sample, "sample", {}), "other")
    assert (config.name, config.memory_mib) == ("web3", 256)
    assert config.cmdline == "root=/dev/ram0 ro console=hvc0 quiet"


def test_the_table_has_one_row_a_key() -> None:
    rows = reference().splitlines()
    assert len(rows) == len(KEYS) + 2
    assert all(row.count("|") == 7 for row in rows)


@pytest.mark.parametrize("key", KEYS.values(), ids=lambda key: key.name)
def test_every_example_parses(key: Key) -> None:
    example = key.example or f"{key.name} = {key.kind.example}"
    assert list(parse(example, "example", {})) == [key.name]


def test_defaults_are_those_of_the_configuration_object() -> None:
    values = DomainConfig(name="web", kernel=Path("/k")).to_mapping()
    same = {"memory": "memory_mib"}
    for name in ("memory", "vcpus", "processor", "on_poweroff", "on_reboot", "on_crash"):
        assert KEYS[name].default == values[same.get(name, name)]


def test_no_key_is_declared_twice() -> None:
    from xenion.config import keys

    assert len(list(keys._all_keys())) == len(KEYS)


def test_the_known_keys_of_xm_and_xl_are_there() -> None:
    assert KEYS["disk"].status is Status.REFUSED
    assert KEYS["pae"].status is Status.ACCEPTED
    assert KEYS["memory"].status is Status.ACTED
    wanted = (
        "disk vif vfb vnc sdl maxmem maxvcpus cpu_weight cpu_cap localtime uuid pae acpi apic device_model"
    )
    assert set(f"{wanted} bootloader nics dhcp".split()) <= set(KEYS)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("memroy", ": did you mean memory?"),
        ("on_reboots", ": did you mean on_reboot?"),
        ("zzz", ""),
        ("m" * 9999, ""),
    ],
)
def test_suggestion(name: str, sentence: str) -> None:
    assert suggestion(name) == sentence
