import json
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.config.strategies import cloud_inits, disk_lists, vif_lists
from xenion.config.disk import Disk
from xenion.config.domain import Action, ConfigError, DomainConfig, Processor, XendStart, XendStop
from xenion.config.vif import Vif

KERNEL = Path("/boot/vmlinuz")
UUID = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=250)
paths = texts.map(lambda text: Path("/" + text[:200]))
configs = st.builds(
    DomainConfig,
    name=st.from_regex(r"[A-Za-z_:+][A-Za-z0-9_.:+-]{0,63}", fullmatch=True),
    kernel=paths,
    uuid=st.just("") | st.uuids().map(str),
    ramdisk=st.none() | paths,
    cmdline=texts,
    memory_mib=st.integers(1, 1 << 20),
    processor=st.sampled_from(Processor),
    on_poweroff=st.sampled_from(Action),
    on_reboot=st.sampled_from(Action),
    on_crash=st.sampled_from(Action),
    on_watchdog=st.sampled_from(Action),
    on_xend_start=st.sampled_from(XendStart),
    on_xend_stop=st.sampled_from(XendStop),
    console_scrollback_kib=st.integers(16, 16384),
    cpus=st.from_regex(r"[0-9a-z:,^ -]{0,40}", fullmatch=True),
    disks=disk_lists,
    vifs=vif_lists,
    cloud_init=st.none() | cloud_inits,
    notes=st.lists(texts).map(tuple),
)


def test_defaults_are_those_of_xl() -> None:
    config = DomainConfig(name="web", kernel=KERNEL)
    assert (config.ramdisk, config.cmdline, config.memory_mib, config.vcpus) == (None, "", 128, 1)
    assert config.processor is Processor.AUTO
    assert config.on_poweroff is Action.DESTROY
    assert config.on_reboot is Action.RESTART
    assert config.on_crash is Action.DESTROY
    assert config.on_watchdog is Action.DESTROY
    assert (config.on_xend_start, config.on_xend_stop) == (XendStart.IGNORE, XendStop.IGNORE)
    assert (config.uuid, config.console_scrollback_kib) == ("", 256)


@given(configs)
def test_json_brings_back_the_same_configuration(config: DomainConfig) -> None:
    again = DomainConfig.from_mapping(json.loads(config.to_json()))
    assert again == config
    assert again.notes == config.notes
    assert DomainConfig.from_mapping(config.to_mapping()) == config


def test_json_holds_plain_values() -> None:
    config = DomainConfig(name="web", kernel=KERNEL, ramdisk=Path("/initrd"), notes=("a note",))
    assert json.loads(config.to_json()) == {
        "name": "web",
        "kernel": "/boot/vmlinuz",
        "uuid": "",
        "ramdisk": "/initrd",
        "cmdline": "",
        "memory_mib": 128,
        "maxmem_mib": 0,
        "vcpus": 1,
        "maxvcpus": 0,
        "cpu_weight": 256,
        "cap": 0,
        "processor": "auto",
        "on_poweroff": "destroy",
        "on_reboot": "restart",
        "on_crash": "destroy",
        "on_watchdog": "destroy",
        "on_xend_start": "ignore",
        "on_xend_stop": "ignore",
        "console_scrollback_kib": 256,
        "cpus": "",
        "disks": [],
        "vifs": [],
        "cloud_init": None,
        "notes": ["a note"],
    }


def test_what_json_leaves_out_has_its_default() -> None:
    config = DomainConfig.from_mapping({"name": "web", "kernel": "/boot/vmlinuz"})
    assert config == DomainConfig(name="web", kernel=KERNEL)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("memory", 5, "'memory' is not a key"),
        ("name", 5, "name must be text"),
        ("name", "", "name must not be empty"),
        ("name", "x" * 65, "at most 64"),
        ("name", "a/b", "name must not be"),
        ("name", "a b", "name must not be"),
        ("name", "..", "name must not be"),
        ("name", "-x", "name must not be"),
        ("name", "a\n", "name must not be"),
        ("name", "ünder", "name must not be"),
        ("name", "42", "digits alone are a domain's id"),
        ("name", "Domain-0", "the host's own name"),
        ("name", "doMain-0", "the host's own name"),
        ("uuid", 5, "uuid must be text"),
        ("uuid", "web", "8, 4, 4, 4 and 12"),
        ("uuid", UUID.replace("-", ""), "8, 4, 4, 4 and 12"),
        ("uuid", f"{{{UUID}}}", "8, 4, 4, 4 and 12"),
        ("uuid", f"{UUID}\n", "8, 4, 4, 4 and 12"),
        ("uuid", "00000000-0000-0000-0000-000000000000", "the host's own"),
        ("kernel", None, "kernel must be text"),
        ("kernel", "", "kernel must be an absolute path"),
        ("kernel", "boot/k", "kernel must be an absolute path"),
        ("kernel", "/a\0b", "zero character"),
        ("kernel", "/a\udcffb", "UTF-8"),
        ("kernel", "/" + "x" * 5000, "at most 4095 bytes"),
        ("ramdisk", 1, "ramdisk must be text"),
        ("ramdisk", "rel", "ramdisk must be an absolute path"),
        ("cmdline", 1, "cmdline must be text"),
        ("cmdline", "a\0b", "zero character"),
        ("cmdline", "ü" * 512, "at most 1023 bytes, not 1024"),
        ("memory_mib", "128", "whole number"),
        ("memory_mib", True, "whole number"),
        ("memory_mib", 128.0, "whole number"),
        ("memory_mib", 0, "from 1 to"),
        ("maxmem_mib", 1 << 21, "from 1 to"),
        ("maxmem_mib", 127, "at least memory"),
        ("memory_mib", 1 << 21, "from 1 to"),
        ("vcpus", 0, "from 1 to 64"),
        ("vcpus", 65, "from 1 to 64"),
        ("maxvcpus", 65, "from 1 to 64"),
        ("maxvcpus", -1, "from 1 to 64"),
        ("cpu_weight", 0, "from 1 to 65535"),
        ("cap", 6401, "to 6400 percent of a CPU"),
        ("processor", "fast", "one of auto, software, hardware"),
        ("processor", ["auto"], "one of auto, software"),
        ("on_crash", "soft-reset", "one of destroy, restart"),
        ("on_reboot", None, "one of destroy, restart"),
        ("on_watchdog", "ignore", "one of destroy, restart"),
        ("on_xend_start", "always", "one of ignore, start"),
        ("on_xend_start", True, "one of ignore, start"),
        ("on_xend_stop", "ask", "one of ignore, shutdown, destroy, suspend"),
        ("console_scrollback_kib", 15, "console_scrollback must be from 16 to 16384 KiB"),
        ("console_scrollback_kib", 16385, "console_scrollback must be from 16 to 16384 KiB"),
        ("console_scrollback_kib", "256", "whole number"),
        ("cpus", "0;1", "list of CPUs"),
        ("cpus", 1, "cpus must be text"),
        ("disks", {}, "disks must be a list"),
        ("vifs", None, "vifs must be a list"),
        ("notes", "x", "list of texts"),
        ("notes", [1], "must be text"),
    ],
)
def test_a_bad_value_is_one_sentence_with_its_key(key: str, value: object, sentence: str) -> None:
    values = DomainConfig(name="web", kernel=KERNEL).to_mapping() | {key: value}
    with pytest.raises(ConfigError, match=sentence) as caught:
        DomainConfig.from_mapping(values)
    assert caught.value.key in (key, key.removesuffix("_mib"), key.removesuffix("_kib"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"disks": [{"target": "/a", "vdev": "xvda"}, {"target": "b", "vdev": "xvdb"}]},
            "disk 1: target must be an",
        ),
        ({"disks": [{"target": "/a", "vdev": "xvda"}] * 2}, "there are two disks xvda"),
        ({"vifs": [{}, {"mac": "x"}]}, "vif 1: mac must be"),
        (
            {"vifs": [{"mac": "00:16:3e:00:00:01"}, {"mac": "00:16:3E:00:00:01"}]},
            "two network interfaces 00:16",
        ),
        ({"cloud_init": {"hostname": "-"}}, "cloud_init: cloud_hostname must be a host name"),
        ({"cloud_init": []}, "cloud_init: cloud_init must be a JSON object"),
    ],
)
def test_a_bad_device_is_one_sentence(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        DomainConfig.from_mapping({"name": "web", "kernel": "/k", **values})
    assert caught.value.key == {"disks": "disk", "vifs": "vif"}.get(next(iter(values)), "cloud_init")


def test_devices_from_json() -> None:
    devices = {"disks": [{"target": "", "vdev": "51728", "cdrom": True}], "vifs": [{}]}
    config = DomainConfig.from_mapping({"name": "a", "kernel": "/k", **devices})
    assert config.disks == (Disk(target="", vdev="xvdb", cdrom=True, writable=False),)
    assert config.vifs == (Vif(),)


@pytest.mark.parametrize("name", ["4x", "_4", "Domain-01", "domain0", *string.ascii_letters])
def test_names_that_only_look_like_ids(name: str) -> None:
    assert DomainConfig(name=name, kernel=KERNEL).name == name


def test_a_uuid_is_kept_in_lower_case() -> None:
    assert DomainConfig.from_mapping({"name": "a", "kernel": "/k", "uuid": UUID.upper()}).uuid == UUID


def test_the_longest_name_and_command_line_fit() -> None:
    config = DomainConfig(name="x" * 64, kernel=KERNEL, cmdline="y" * 1023)
    assert (len(config.name), len(config.cmdline)) == (64, 1023)


@pytest.mark.parametrize("missing", ["name", "kernel"])
def test_name_and_kernel_are_needed(missing: str) -> None:
    values = DomainConfig(name="web", kernel=KERNEL).to_mapping()
    del values[missing]
    with pytest.raises(ConfigError, match=f"{missing} is missing"):
        DomainConfig.from_mapping(values)


@pytest.mark.parametrize("values", [[], 1, None, "web", {1: 2}])
def test_what_is_no_configuration_is_refused(values: object) -> None:
    with pytest.raises(ConfigError):
        DomainConfig.from_mapping(values)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(DomainConfig(name="a", kernel=KERNEL).to_mapping())), json_values)
def test_random_values_raise_nothing_else(key: str, value: object) -> None:
    try:
        config = DomainConfig.from_mapping({"name": "web", "kernel": "/k", key: value})
    except ConfigError:
        return
    assert DomainConfig.from_mapping(config.to_mapping()) == config


def test_notes_are_no_part_of_what_a_domain_is() -> None:
    assert DomainConfig(name="a", kernel=KERNEL, notes=("x",)) == DomainConfig(name="a", kernel=KERNEL)


def test_a_configuration_does_not_change() -> None:
    config = DomainConfig(name="web", kernel=KERNEL)
    with pytest.raises(AttributeError):
        config.name = "other"  # type: ignore[misc]  # the assignment that must fail
    assert not hasattr(config, "__dict__")
