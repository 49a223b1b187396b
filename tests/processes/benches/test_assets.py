"""Files of the runs."""

import subprocess
from pathlib import Path

import pytest

from benches import assets, xen
from benches.rows import DONE, GUEST_ROWS, parse


def bzimage(release: bytes) -> bytes:
    image = bytearray(0x1000)
    image[0x202:0x206] = b"HdrS"
    image[0x20E:0x210] = (0x300).to_bytes(2, "little")
    image[0x500 : 0x500 + len(release)] = release
    return bytes(image)


def test_the_release_of_a_kernel(tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(bzimage(b"6.1.0-56-cloud-amd64 (debian-kernel@lists.debian.org) #1 SMP"))
    assert assets.kernel_release(path) == "6.1.0-56-cloud-amd64"


@pytest.mark.parametrize("content", [b"", b"\x7fELF" + bytes(600), bzimage(b"")])
def test_what_tells_no_release(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(content)
    assert assets.kernel_release(path) is None


def test_versions_tell_what_was_used_only(tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(bzimage(b"6.1.0-56-amd64 x"))
    (tmp_path / "busybox").write_bytes(b"")
    these = assets.Assets(tmp_path / "work", tmp_path)
    assert these.versions() == {}
    assert these.generic_kernel.is_file()
    assert these.busybox.is_file()
    assert these.versions() == {"generic_kernel": "6.1.0-56-amd64", "busybox": "sha256:e3b0c44298fc1c14"}


def test_the_guest_benchmark_runs_here(tmp_path: Path) -> None:
    program = assets.compile_bench(tmp_path / "bench")
    assert list(tmp_path.iterdir()) == [program]
    done = subprocess.run([program, "/bin/true"], capture_output=True, text=True, check=True)
    assert set(parse(done.stdout)) == {row.name for row in GUEST_ROWS}
    assert done.stdout.endswith(f"{DONE}\n")


def test_the_guest_benchmark_tells_a_row_that_fails(tmp_path: Path) -> None:
    program = assets.compile_bench(tmp_path / "bench")
    done = subprocess.run([program, "/nowhere"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "BENCH-FAILED fork_exec_wait\n" in done.stdout
    assert DONE not in done.stdout


def test_xen_tells_its_version() -> None:
    assert xen.version("(XEN) Xen version 4.17.7 (Debian 4.17.7) debug=n\n") == "4.17.7"
    assert xen.version("Linux version 6.1") is None
