import shutil
from pathlib import Path

from xenion.config import reference
from xenion.config.cloud_init import CloudInit
from xenion.config.disk import Disk
from xenion.config.domain import DomainConfig
from xenion.config.keys import KEYS
from xenion.config.reference import fields_table, keys_table, part_table, renewed
from xenion.config.resolve import resolve
from xenion.config.vif import Forward, Vif
from xenion.config.xmfile import parse

DOCUMENT = Path(__file__).parents[3] / "docs" / "config.md"


def test_the_document_contains_the_tables() -> None:
    """Mend it with: python -m xenion.config.reference docs/config.md."""
    text = DOCUMENT.read_text()
    assert keys_table() in text
    assert fields_table() in text
    for part in (Disk, Vif, Forward, CloudInit):
        assert part_table(part) in text
    assert renewed(text) == text


def test_the_documents_sample_is_what_it_says() -> None:
    sample = DOCUMENT.read_text().partition("```python\n")[2].partition("```")[0]
    config = resolve(parse(sample, "sample", {}), "other")
    assert (config.name, config.memory_mib) == ("web3", 256)
    assert config.cmdline == "root=/dev/ram0 ro console=hvc0 quiet"


def test_the_documents_devices_are_what_it_says() -> None:
    _, disks, vifs, cloud = (
        part.partition("```")[0] for part in DOCUMENT.read_text().split("```python\n")[1:]
    )
    config = resolve(parse(f'kernel = "/k"\n{disks}', "disks", {}), "other")
    assert [disk.vdev for disk in config.disks] == [f"xvd{letter}" for letter in "abcdefghi"]
    assert config.disks[5] == Disk(target="/srv/a,b.iso", vdev="xvdf", writable=False, cdrom=True)
    assert config.notes == ()
    for line in vifs.splitlines():
        config = resolve(parse(f'kernel = "/k"\n{line}', "vifs", {}), "other")
        assert config.vifs
        assert config.notes == ()
    cloud = cloud.replace("...", "")
    assert resolve(parse(f'kernel = "/k"\n{cloud}', "cloud", {}), "other").cloud_init


def test_the_tables_have_one_row_a_key_and_a_field() -> None:
    keys = keys_table().splitlines()
    assert len(keys) == len(KEYS) + 2
    assert all(row.count("|") == 7 for row in keys)
    fields = fields_table().splitlines()
    assert len(fields) == len(DomainConfig(name="a", kernel=Path("/k")).to_mapping()) + 2
    assert all(row.count("|") == 5 for row in fields)


def test_rows_say_type_default_and_effect() -> None:
    assert "| `console_scrollback_kib` | whole number | `256` | `console_scrollback` |\n" in fields_table()
    assert "| `name` | text | needed | `name` |\n" in fields_table()
    assert '| `on_xend_start` | one of `ignore`, `start` | `"ignore"` | `on_xend_start` |\n' in fields_table()
    row = "| `vncdisplay` | number |  | `vncdisplay = 1` | not supported yet | A virtual display."
    assert f"{row} There is no virtual display. |\n" in keys_table()
    assert "| `sector_bytes` | whole number | `512` | `sector=` |\n" in part_table(Disk)
    assert '| `host_address` | text | `"127.0.0.1"` | the host\'s address |\n' in part_table(Forward)


def test_stale_tables_are_renewed_and_the_rest_is_kept(tmp_path: Path) -> None:
    document = tmp_path / "config.md"
    shutil.copy(DOCUMENT, document)
    fresh = document.read_text()
    lines = fresh.splitlines(keepends=True)
    stale = "".join(line for line in lines if not line.startswith(("| `memory`", "| `vcpus`")))
    document.write_text(stale)
    assert stale != fresh
    reference.main(document)
    assert document.read_text() == fresh
