from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.config.strategies import cloud_inits, disk_lists, vif_lists
from xenion.config.cloud_init import CloudInit
from xenion.config.disk import Disk, Format
from xenion.config.domain import Action, DomainConfig, Processor, XendStart, XendStop
from xenion.config.resolve import resolve
from xenion.config.show import show
from xenion.config.vif import Vif
from xenion.config.xmfile import load, parse


def test_lines_are_aligned_and_resolved() -> None:
    config = DomainConfig(
        name="web",
        kernel=Path("/boot/vmlinuz"),
        cmdline='a="b c"',
        cpus="0-1",
        notes=("cpus: Not acted on.", "a\nname = 1"),
    )
    assert show(config) == (
        'name        = "web"\n'
        'kernel      = "/boot/vmlinuz"\n'
        'cmdline     = "a=\\"b c\\""\n'
        "memory      = 128\n"
        "vcpus       = 1\n"
        'processor   = "auto"\n'
        'on_poweroff = "destroy"\n'
        'on_reboot   = "restart"\n'
        'on_crash    = "destroy"\n'
        'cpus        = "0-1"\n'
        "# cpus: Not acted on.\n"
        "# a\\nname = 1\n"
    )


def test_what_is_unusual_is_shown_too() -> None:
    config = DomainConfig(
        name="web",
        kernel=Path("/k"),
        uuid="6ba7b810-9dad-41d1-80b4-00c04fd430c8",
        on_watchdog=Action.PRESERVE,
        on_xend_start=XendStart.START,
        on_xend_stop=XendStop.SHUTDOWN,
        console_scrollback_kib=1024,
        disks=(Disk(target="/a", vdev="xvda"), Disk(target="/b,ü", vdev="xvdb", format=Format.QCOW2)),
        vifs=(Vif(), Vif(mac="00:16:3e:00:00:01")),
        cloud_init=CloudInit(user_data=Path("/u"), ssh_keys=("ssh-ed25519 AAAAAAAA",)),
    )
    assert show(config).endswith(
        'on_watchdog        = "preserve"\n'
        'on_xend_start      = "start"\n'
        'on_xend_stop       = "shutdown"\n'
        "console_scrollback = 1024\n"
        'uuid               = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"\n'
        'disk               = ["format=raw, vdev=xvda, access=rw, target=/a", '
        '"format=qcow2, vdev=xvdb, access=rw, target=/b,\\xfc"]\n'
        'vif                = ["", "mac=00:16:3e:00:00:01"]\n'
        'cloud_user_data    = "/u"\n'
        'cloud_ssh_keys     = ["ssh-ed25519 AAAAAAAA"]\n'
    )


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
    cloud_init=st.none() | cloud_inits.filter(lambda cloud: cloud != CloudInit()),
    notes=st.lists(texts).map(tuple),
)


@given(configs)
def test_what_is_shown_reads_back_as_the_same(config: DomainConfig) -> None:
    text = show(config)
    assert text.isascii()
    assert resolve(parse(text, "shown", {}), "other") == config


def test_a_loaded_file_shows_as_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "web.cfg"
    file.write_text('kernel = "k"\nroot = "/dev/xvda1 ro"\nextra = "ü\\n"\nmemory = 64 + 64\n')
    config = load(file, {})
    file.write_text(show(config))
    monkeypatch.chdir("/")
    assert load(file, {}) == config
