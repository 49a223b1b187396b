import contextlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xenion.config.disk import Disk
from xenion.config.domain import Action, DomainConfig
from xenion.config.errors import ConfigError
from xenion.config.source import TEXT_BYTES
from xenion.config.values import Value
from xenion.config.vif import Vif
from xenion.config.xmfile import load, parse

CLASSIC = """\
#  -*- mode: python; -*-
# A file as xm's own examples have it.
vmid = 3
kernel = "/boot/vmlinuz-2.6-xenU"
ramdisk = '/boot/initrd.gz'
builder='linux'
memory = 64 + 64
name = "guest%d" % vmid
cpus = ""         # leave to Xen to pick
vcpus = 1
vif = [ ]
disk = [
]
ip = '192.0.2.' '7'
root = "/dev/sda1 ro" if vmid > 2 else "/dev/sda2 ro"
extra = '''4'''; on_poweroff = 'destroy';
on_reboot   = "restart"
"""


def loaded(tmp_path: Path, text: str, **overrides: str) -> DomainConfig:
    file = tmp_path / "guest.cfg"
    file.write_text(text)
    return load(file, overrides)


def test_a_classic_file(tmp_path: Path) -> None:
    assert loaded(tmp_path, CLASSIC) == DomainConfig(
        name="guest3",
        kernel=Path("/boot/vmlinuz-2.6-xenU"),
        ramdisk=Path("/boot/initrd.gz"),
        cmdline="root=/dev/sda1 ro ip=192.0.2.7 4",
    )


SAMPLES = Path(__file__).parent / "samples"


def test_a_file_of_xen_3_and_one_for_xl_are_the_same_guest() -> None:
    classic, today = (load(SAMPLES / name, {"kernel": "/k"}) for name in ("xen-3.0.cfg", "xl.cfg"))
    assert replace(classic, maxvcpus=2, maxmem_mib=128) == today
    assert classic == DomainConfig(
        name="guest7",
        kernel=Path("/k"),
        cmdline="root=/dev/hda1 ro ip=::::vm7:eth0:dhcp 4",
        memory_mib=64,
        on_crash=Action.PRESERVE,
        disks=(Disk(target="/dev/hda8", vdev="hda1"), Disk(target="/var/images/swap.img", vdev="hda2")),
        vifs=(Vif(),),
    )
    assert classic.notes == ()
    assert [note.split(":")[0] for note in today.notes] == [
        *("on_soft_reset", "vfb", "p9"),
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "disk = ['file:/a,xvda,w',\n  'file:/b,xvdb,q']",
            "guest.cfg:2:1: disk 'file:/b,xvdb,q': access must be r or w",
        ),
        ("vif = ['mac=1']", "guest.cfg:2:1: vif 'mac=1': mac must be six pairs"),
        ("disk = ['file:/a,xvda,w', 'file:/b,xvda,w']", "guest.cfg:2:1: there are two disks xvda"),
        ("cloud_hostname = '-'", "guest.cfg:2:1: cloud_hostname must be a host name"),
    ],
)
def test_errors_in_devices_have_their_place(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, f"kernel = '/k'\n{text}")
    assert sentence in str(caught.value)


def test_a_classic_file_follows_its_variable() -> None:
    assert load(SAMPLES / "xen-3.0.cfg", {"vmid": "8"}).name == "guest8"


def test_parse_gives_the_known_keys_only() -> None:
    assert parse("_base = 2\nname = 'vm%d' % _base\nmemory = 0x40\n", "f", {}) == {
        "name": "vm2",
        "memory": 64,
    }


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("\n# nothing\n", {}),
        ("name='a';memory=1;", {"name": "a", "memory": 1}),
        ("memory = 1\nmemory = 2", {"memory": 2}),
        ("memory = maxmem = 64", {"memory": 64, "maxmem": 64}),
        ("disk = ['a']\ndisk += ['b',\n]", {"disk": ["a", "b"]}),
        ("extra = 'a'\r\nextra += ' b'\r\n", {"extra": "a b"}),
        ("ramdisk = None", {"ramdisk": None}),
        ("x = [1, 'two']\nextra = 'y' if 'two' in x else 'n'", {"extra": "y"}),
    ],
)
def test_syntax(text: str, values: dict[str, Value]) -> None:
    assert parse(text, "f", {}) == values


def test_a_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert loaded(tmp_path, "\ufeffkernel = '/k'").kernel == Path("/k")


def test_the_name_is_the_files(tmp_path: Path) -> None:
    assert loaded(tmp_path, "kernel = '/k'").name == "guest"
    (tmp_path / "bad name.cfg").write_text("kernel = '/k'")
    with pytest.raises(ConfigError, match="name is missing"):
        load(tmp_path / "bad name.cfg", {})


def test_relative_paths_start_at_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert loaded(tmp_path, "kernel = '../k'").kernel == tmp_path / "elsewhere/../k"


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("memory", "256", 256),
        ("memory", "0x100", 256),
        ("memory", "abc", "abc"),
        ("name", "foo", "foo"),
        ("name", "42", "42"),
        ("name", "True", "True"),
        ("name", '"foo"', "foo"),
        ("extra", "a b", "a b"),
        ("extra", "'a' 'b'", "ab"),
        ("extra", "['a']", "['a']"),
        ("extra", "", ""),
        ("root", "/dev/xvda1 ro", "/dev/xvda1 ro"),
        ("kernel", "1", "1"),
        ("acpi", "True", True),
        ("cpu_weight", "1.5", 1.5),
        ("usb", "no", "no"),
        ("cpus", "0-3", "0-3"),
        ("cpus", "2", "2"),
        ("cpus", "['2']", ["2"]),
        ("disk", "phy:x,xvda,w", ["phy:x,xvda,w"]),
        ("disk", "['a', 'b']", ["a", "b"]),
        ("disk", "5", ["5"]),
        ("disk", "", ""),
        ("extra", "x" * 70_000, "x" * 70_000),
        ("extra", "(" * 5000, "(" * 5000),
    ],
)
def test_overrides_take_the_type_that_the_key_expects(name: str, written: str, value: Value) -> None:
    answer = parse(f"{name} = 'from the file'", "f", {name: written})[name]
    assert answer == value
    assert type(answer) is type(value)


def test_expressions_of_the_file_see_overrides() -> None:
    text = "vmid = 1\nname = 'vm%d' % vmid\nextra = 'host=' + name\nextra += ' x'\n"
    assert parse(text, "f", {"vmid": "7"}) == {"name": "vm7", "extra": "host=vm7 x"}
    assert parse(text, "f", {"name": "42", "extra": "y"})["extra"] == "y"
    assert parse("name = 'vm%d' % vmid", "f", {"vmid": "7"}) == {"name": "vm7"}


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        (
            "kernel = '/k'\nmemroy = 5",
            {},
            "2:1: memroy is not a known key, and nothing uses it: did you mean memory?",
        ),
        ("_x = 1", {}, "1:1: _x is not a known key"),
        ("x = 1\ny = x", {}, "2:1: y is not a known key"),
        ("", {"memroy": "5"}, "command line: memroy is not a known key"),
        ("", {"no\nname": "5"}, r"command line: no\nname is not a known key"),
        ("kernel = '/k'\nmemory = 'abc'", {}, "2:1: memory must be a whole number, not 'abc'"),
        (
            "kernel = '/k'\nmemory = 1",
            {"memory": "abc"},
            "command line: memory must be a whole number, not 'abc'",
        ),
        ("kernel = '/k'; vcpus = 0", {}, "1:16: vcpus must be from 1 to 64"),
        ("memory = 1", {}, "guest.cfg: kernel is missing"),
        ("kernel = 'é' + open('x')", {}, "1:16: a function call is not allowed"),
        ("import os", {}, "1:1: an import is not allowed"),
        ("# top\nimport os, re\n", {}, "2:1: an import is not allowed: a configuration is read, never run"),
        ("arch = os.uname()[4]", {}, "1:8: a subscript is not allowed"),
        ("arch = os.uname()", {}, "1:8: a function call is not allowed"),
        ("xm_vars.var('vmid')", {}, "1:1: an expression without a name is not allowed"),
        ("from os import path", {}, "1:1: an import is not allowed"),
        ("if True:\n  memory = 1", {}, "1:1: an if statement"),
        ("for x in []: pass", {}, "1:1: a loop"),
        ("while 1: pass", {}, "1:1: a loop"),
        ("def f(): pass", {}, "1:1: a function"),
        ("class C: pass", {}, "1:1: a class"),
        ("memory", {}, "1:1: an expression without a name"),
        ("memory: int = 1", {}, "1:1: an annotation"),
        ("memory = 1\nmemory -= 1", {}, "2:1: an operator other than = and +="),
        ("del memory", {}, "1:1: a statement other than"),
        ("with x: pass", {}, "1:1: a statement other than"),
        ("try:\n  pass\nfinally: pass", {}, "1:1: a statement other than"),
        ("a, b = 1, 2", {}, "1:1: only a plain name can be set"),
        ("a.b = 1", {}, "1:1: only a plain name can be set"),
        ("a[0] = 1", {}, "1:1: only a plain name can be set"),
        ("extra += 'x'", {}, "1:1: extra is not set above"),
        ("kernel = vmlinuz", {}, "1:10: vmlinuz is not set above: set it, or quote it"),
        ("kernel = = 1", {}, "1:10: this is not the syntax"),
        ("a = 'xxxxxxxx'\n" + "a = a + a\n" * 30, {}, "a value must have at most"),
        ("a = ['xxxxxxxx']\n" + "a += a\n" * 30, {}, "a value must have at most"),
        ("a = 1\n" + "a = [a, a]\n" * 40, {}, "a value must have at most"),
        ("a = 'x'\n" + "a = '%s%s' % (a, a)\n" * 30, {}, "must have at most 65536 characters"),
        ("a = 1\n" + "a = a + a\n" * 100, {}, "64 bits"),
        (f"a = '{'x' * 50_000}'\n" + "b = a + ''\n" * 200, {}, "too much work"),
    ],
)
def test_one_sentence_with_its_place(
    tmp_path: Path, text: str, overrides: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text, **overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none.cfg", tmp_path, tmp_path / "a\0b"):
        with pytest.raises(ConfigError, match="cannot be read"):
            load(path, {})


def test_bytes_that_are_not_utf8_have_their_place(tmp_path: Path) -> None:
    file = tmp_path / "latin.cfg"
    file.write_bytes("# ü\nextra = 'ü".encode() + b"\xe9'")
    with pytest.raises(ConfigError, match="byte 0xe9 is not UTF-8") as caught:
        load(file, {})
    assert caught.value.where == f"{file}:2:11"


def test_a_file_without_an_end_is_refused() -> None:
    with pytest.raises(ConfigError, match=f"over {TEXT_BYTES} bytes"):
        load(Path("/dev/zero"), {})


WORDS = r"""
name kernel memory extra disk x y = += + % == < in not and or if else ( ) [ ] { } , ; : . # @ * - ~
'a' '%d' '%s' '%99999d' 'é 1 0x10 1.5 None True f'{x}' b'' lambda import for \
"""
words = st.sampled_from([*WORDS.split(), "\n", "\0", "\r", "\f", "\t"])
snippets = st.lists(words | st.text(max_size=3), max_size=30).map(" ".join)
overrides = st.dictionaries(
    st.sampled_from(["name", "memory", "disk", "cpus", "x"]), st.text() | snippets, max_size=2
)


@settings(max_examples=300)
@example("name = '\\ud800'", {})
@given(st.text() | snippets, overrides)
def test_random_text_raises_nothing_else(text: str, overrides: dict[str, str]) -> None:
    with contextlib.suppress(ConfigError):
        assert parse(text, "f.cfg", overrides).keys() >= {name for name in overrides if name != "x"}


assignments = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "name",
                "uuid",
                "kernel",
                "ramdisk",
                "memory",
                "maxmem",
                "extra",
                "root",
                "cpus",
                "vcpus",
                "disk",
                "acpi",
                "ip",
                "restart",
                "on_xend_stop",
            ]
        ),
        st.text(max_size=9).map(repr)
        | st.integers().map(repr)
        | st.sampled_from(["[]", "['a']", "None", "1.5", "'k'"]),
    ).map(" = ".join)
).map("\n".join)


@settings(max_examples=200)
@given(st.binary() | assignments.map(str.encode), overrides)
def test_random_files_raise_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, overrides: dict[str, str]
) -> None:
    file = tmp_path_factory.getbasetemp() / "random.cfg"
    file.write_bytes(content)
    with contextlib.suppress(ConfigError):
        config = load(file, overrides)
        assert DomainConfig.from_mapping(config.to_mapping()) == config


def test_importing_it_brings_in_nothing_that_only_errors_need() -> None:
    program = "import sys, xenion.config.xmfile as m; print({'difflib', 'json'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "set()\n"
