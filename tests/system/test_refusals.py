"""What cannot be done is refused in one clear sentence, with exit status 2, and leaves no process."""

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.system import build

if TYPE_CHECKING:
    from tests.system.conftest import Kernel
    from tests.system.xm import Finished, Xm


def refused(xm: "Xm", done: "Finished") -> str:
    """The sentence."""
    assert done.status == 2, done.stderr
    assert done.stdout == b""
    sentence = done.sentence()
    assert xm.domains() == []
    return sentence


class Test_a_file_that_is_named:
    @pytest.mark.parametrize("key", ["kernel", "ramdisk"])
    def test_and_missing(self, xm: "Xm", tiny_kernel: "Kernel", key: str) -> None:
        config = xm.config(**{"kernel": tiny_kernel("poweroff"), key: "/nowhere/file"})
        assert refused(xm, xm.create(config)) == f"{key} /nowhere/file does not exist: correct the path"

    @pytest.mark.parametrize("key", ["kernel", "ramdisk"])
    @pytest.mark.parametrize("path", ["/usr", "/dev/null"])
    def test_and_no_file(self, xm: "Xm", tiny_kernel: "Kernel", key: str, path: str) -> None:
        config = xm.config(**{"kernel": tiny_kernel("poweroff"), key: path})
        assert refused(xm, xm.create(config)) == f"{key} {path} is not a file: correct the path"

    @pytest.mark.parametrize("key", ["kernel", "ramdisk"])
    def test_and_not_readable(self, xm: "Xm", tiny_kernel: "Kernel", key: str) -> None:
        secret = xm.folder / "secret"
        secret.write_bytes(b"\x7fELF" * 100)
        secret.chmod(0)
        config = xm.config(**{"kernel": tiny_kernel("poweroff"), key: secret})
        done = xm.run("create", "-c", config, before=without_privilege(secret))
        assert refused(xm, done) == f"{secret}: Permission denied"

    def test_configuration_and_missing(self, xm: "Xm") -> None:
        assert refused(xm, xm.create(Path("/nowhere/web.cfg"))) == (
            "'/nowhere/web.cfg' cannot be read: No such file or directory"
        )

    def test_configuration_and_a_folder(self, xm: "Xm") -> None:
        assert refused(xm, xm.create(Path("/usr"))) == "'/usr' cannot be read: Is a directory"


def without_privilege(secret: Path) -> list[str]:
    """What root puts before a command so that file modes count; skips where that cannot be done."""
    try:
        secret.read_bytes()
    except PermissionError:
        return []
    program = shutil.which("setpriv")
    dropping = [program or "", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
    if not program or subprocess.run([*dropping, "true"], check=False, capture_output=True).returncode:
        pytest.skip(
            "file modes cannot be made to count here: setpriv is missing or may not drop capabilities"
        )
    return dropping


@dataclass(frozen=True)
class Bad:
    """How a bad kernel is made of a good one, and what is said about it after its path."""

    content: Callable[[bytes], bytes]
    sentence: str


BAD_KERNELS = {
    "empty": Bad(lambda good: b"", r"the file starts with nothing, which is no bzImage"),
    "text": Bad(lambda good: b"root:x:0:0\n" * 99, r"the file starts with 726f6f74, which is no bzImage"),
    "cut in its header": Bad(lambda good: good[:0x230], r"the bzImage ends within its setup header"),
    "cut in its payload": Bad(
        lambda good: good[: len(good) // 2], r"the bzImage's payload ends at byte \d+, but .* truncated"
    ),
    "damaged": Bad(lambda good: good[:1_000_000] + bytes(4096) + good[1_004_096:], r".+"),
}


@pytest.mark.parametrize("bad", BAD_KERNELS.values(), ids=BAD_KERNELS)
def test_a_bad_kernel(xm: "Xm", cloud_kernel: Path, bad: Bad) -> None:
    kernel = xm.folder / "vmlinuz"
    kernel.write_bytes(bad.content(cloud_kernel.read_bytes()))
    assert re.match(re.escape(f"{kernel}: ") + bad.sentence, refused(xm, xm.create(xm.config(kernel=kernel))))


class Test_an_elf_kernel:
    def test_without_xen_notes(self, xm: "Xm", tiny_kernel: "Kernel") -> None:
        kernel = tiny_kernel("poweroff", extra=["-DNO_NOTES"])
        assert refused(xm, xm.create(xm.config(kernel=kernel))) == (
            f"{kernel}: the kernel has no Xen notes, so it cannot run as a PV domain: give one built with CONFIG_XEN_PV"
        )

    def test_of_32_bits(self, xm: "Xm", tiny_kernel: "Kernel") -> None:
        kernel = xm.folder / "vmlinux"
        good = bytearray(tiny_kernel("poweroff").read_bytes())
        good[4] = 1  # EI_CLASS: ELFCLASS32
        kernel.write_bytes(good)
        assert "32-bit ELF" in refused(xm, xm.create(xm.config(kernel=kernel)))

    def test_that_is_a_program_of_the_host(self, xm: "Xm", program: Callable[[str], Path]) -> None:
        kernel = program("clocks")
        assert refused(xm, xm.create(xm.config(kernel=kernel))).startswith(
            f"{kernel}: the kernel has no Xen notes"
        )

    def test_that_is_cut(self, xm: "Xm", tiny_kernel: "Kernel") -> None:
        kernel = xm.folder / "vmlinux"
        good = tiny_kernel("poweroff").read_bytes()
        for size in (10, 70, len(good) // 2):
            kernel.write_bytes(good[:size])
            assert refused(xm, xm.create(xm.config(kernel=kernel))).startswith(f"{kernel}: ")


class Test_memory:
    def test_too_little_for_the_kernel(self, xm: "Xm", cloud_kernel: Path) -> None:
        """The sentence names what is needed, and that much is accepted."""
        sentence = refused(xm, xm.create(xm.config(kernel=cloud_kernel, memory=24)))
        found = re.fullmatch(
            r"the domain has 24 MiB of memory, but this kernel with its ramdisk needs at least (\d+) MiB.*",
            sentence,
        )
        assert found, sentence
        done = xm.create(xm.config(kernel=cloud_kernel, memory=int(found[1]), extra="console=hvc0 panic=1"))
        assert done.status == 1
        assert "VFS: Unable to mount root fs" in done.console

    def test_beyond_the_hosts(self, xm: "Xm", tiny_kernel: "Kernel") -> None:
        config = xm.config(kernel=tiny_kernel("poweroff"), memory=1_000_000)
        sentence = refused(xm, xm.create(config))
        assert re.match(r"memory = 1000000 MiB does not fit: the host has \d+ MiB", sentence)

    @pytest.mark.parametrize("amount", [0, -5, 1 << 40])
    def test_absurd(self, xm: "Xm", tiny_kernel: "Kernel", amount: int) -> None:
        config = xm.config("m", kernel=tiny_kernel("poweroff"), memory=amount)
        assert re.match(r".*m\.cfg:2:1: memory must be ", refused(xm, xm.create(config)))

    def test_less_than_the_ramdisk(self, xm: "Xm", tiny_kernel: "Kernel") -> None:
        ramdisk = xm.folder / "ramdisk"
        ramdisk.write_bytes(b"070701" + bytes(40 << 20))
        config = xm.config(kernel=tiny_kernel("poweroff"), ramdisk=ramdisk, memory=32)
        assert re.search(r"\d+ MiB|more memory", refused(xm, xm.create(config)))

    @pytest.mark.parametrize("content", [b"", bytes(100_000)], ids=["empty", "zeros"])
    def test_for_a_ramdisk_that_is_none(self, xm: "Xm", tiny_kernel: "Kernel", content: bytes) -> None:
        ramdisk = xm.folder / "ramdisk"
        ramdisk.write_bytes(content)
        config = xm.config(kernel=tiny_kernel("poweroff"), ramdisk=ramdisk)
        assert "the ramdisk is empty or cut short" in refused(xm, xm.create(config))

    def test_for_a_ramdisk_that_is_cut(self, xm: "Xm", cloud_kernel: Path, busybox: Path) -> None:
        """Its size when unpacked is not known then, and no number may be made up."""
        from tests.system import guests

        ramdisk = xm.folder / "ramdisk.gz"
        whole = guests.ramdisk(busybox, "", {})
        ramdisk.write_bytes(whole[: len(whole) // 2])
        sentence = refused(xm, xm.create(xm.config(kernel=cloud_kernel, ramdisk=ramdisk)))
        assert re.search(r"ramdisk.*(cut short|truncated)", sentence)


CONFIGURATIONS = {
    "syntax": ("kernel = '/k'\nname = = 3\n", r"FILE:2:8: this is not the syntax of a configuration: .+"),
    "unclosed": ("kernel = '/k\n", r"FILE:1:10: this is not the syntax of a configuration: .+"),
    "call": ("kernel = open('/k')\n", r"FILE:1:10: a function call is not allowed: .+"),
    "statement": ("import os\n", r"FILE:1:1: an import is not allowed: .+"),
    "unknown key": (
        "kernel = '/k'\nmemroy = 3\n",
        r"FILE:2:1: memroy is not a known key.*: did you mean memory\?",
    ),
    "mistyped": ("kernel = '/k'\nmemory = 'lots'\n", r"FILE:2:1: memory must be a whole number, not 'lots'"),
    "bad action": ("kernel = '/k'\non_crash = 'retsart'\n", r"FILE:2:1: on_crash must be one of .*restart.*"),
    "fully virtualised": (
        "kernel = '/k'\nbuilder = 'hvm'\n",
        r"FILE:2:1: builder must be one of .*: only paravirtualised guests are supported",
    ),
    "maxmem below memory": ("kernel = '/k'\nmaxmem = 64\n", r"FILE:2:1: maxmem must be at least memory .+"),
    "name of digits": ("kernel = '/k'\nname = '42'\n", r"FILE:2:1: name must not be '42': digits alone .+"),
    "the host's name": ("kernel = '/k'\nname = 'Domain-0'\n", r"FILE:2:1: name must not be 'Domain-0': .+"),
    "no such end": (
        "kernel = '/k'\non_xend_stop = 'ask'\n",
        r"FILE:2:1: on_xend_stop must be one of .+suspend, .+",
    ),
    "no kernel": ("memory = 64\n", r"FILE: kernel is missing: .+"),
    "relative name": ("kernel = '/k'\nname = '../../etc'\n", r"FILE:2:1: name must not be .+"),
    "too many processors": ("kernel = '/k'\nvcpus = 65\n", r"FILE:2:1: vcpus must be from 1 to 64, not 65"),
    "not UTF-8": (b"kernel = '\xff'\n", r"FILE:1:11: the byte 0xff is not UTF-8.+"),
    "empty": ("", r"FILE: kernel is missing: .+"),
}


@pytest.mark.parametrize(("text", "sentence"), CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_a_bad_configuration(xm: "Xm", text: str | bytes, sentence: str) -> None:
    path = xm.folder / "web.cfg"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert re.fullmatch(sentence.replace("FILE", re.escape(str(path))), refused(xm, xm.create(path)))


OVERRIDES = {
    "memory=abc": r"command line: memory must be a whole number, not 'abc'",
    "memroy=3": r"command line: memroy is not a known key, .*did you mean memory\?",
    "plain": r'"plain" is not NAME=VALUE',
    "=3": r'"=3" is not NAME=VALUE',
    "on_crash=explode": r"command line: on_crash must be one of .+",
}


@pytest.mark.parametrize(("word", "sentence"), OVERRIDES.items())
def test_a_bad_override(xm: "Xm", tiny_kernel: "Kernel", word: str, sentence: str) -> None:
    config = xm.config(kernel=tiny_kernel("poweroff"))
    assert re.fullmatch(sentence, refused(xm, xm.create(config, word)))


COMMANDS = {
    "craete": 'there is no command "craete"; did you mean "create"?',
    "frobnicate": 'there is no command "frobnicate"; see "xm help"',
    "": '"" may mean block-attach, ',
}


@pytest.mark.parametrize(("word", "sentence"), COMMANDS.items())
def test_an_unknown_command(xm: "Xm", word: str, sentence: str) -> None:
    assert refused(xm, xm.run(word)).startswith(sentence)


def test_a_state_folder_that_cannot_be_made(xm: "Xm", tiny_kernel: "Kernel") -> None:
    xm.state.write_text("a file where the folder should be")
    done = xm.create(xm.config(kernel=tiny_kernel("poweroff")))
    assert done.status == 1
    assert str(xm.state) in done.sentence()


def test_the_compiler_is_asked_in_vain_only_once() -> None:
    """A source that does not compile is an error of these tests, told as such."""
    with pytest.raises(build.BuildError):
        build.tiny_kernel("no such label ,")
