"""The commands of the peers, and how what is missing is told."""

from pathlib import Path

import pytest

from benches import peers
from benches.assets import AssetError, Assets
from benches.peers import PEERS, Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    given = tmp_path / "given"
    given.mkdir()
    for name in ("vmlinuz-cloud", "vmlinuz", "xen.elf", "busybox"):
        (given / name).write_bytes(name.encode())
    assets = Assets(tmp_path / "work", given)
    assets.__dict__["bench"] = given / "busybox"
    return Run(assets, tmp_path / "work", "bench-x-0")


def command(name: str, run: Run) -> list[str]:
    return next(peer for peer in PEERS if peer.name == name).command(run)


def test_the_peers_are_there_in_their_order() -> None:
    assert [peer.name for peer in PEERS] == ["xenion", "kvm", "tcg", "xen-tcg", "host"]


def test_xenion_runs_xm_on_a_configuration(run: Run) -> None:
    argv = command("xenion", run)
    assert argv[:3] == [str(peers.xm()), "create", "-c"]
    text = Path(argv[3]).read_text()
    assert f"kernel = '{run.assets.cloud_kernel}'\n" in text
    assert "memory = 512\n" in text
    assert "processor = 'software'\n" in text
    assert "yardstick=bench" in text


def test_so_does_its_other_processor(run: Run) -> None:
    assert "processor = 'hardware'\n" in Path(command("kvm", run)[3]).read_text()


def test_without_kvm_it_says_what_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(peers, "KVM", tmp_path / "kvm")
    monkeypatch.setattr(peers, "_xenion_missing", lambda: None)
    (kvm,) = [peer for peer in PEERS if peer.name == "kvm"]
    assert kvm.missing() == peers.GIVE_KVM


def test_guests_get_the_same_memory_and_initramfs(run: Run) -> None:
    tcg, xen = " ".join(command("tcg", run)), " ".join(command("xen-tcg", run))
    assert "-m 512 " in tcg
    assert "dom0_mem=512M" in xen
    for line in (tcg, xen):
        assert "-accel tcg" in line
        assert str(run.assets.initramfs) in line


def test_the_host_executes_the_same_busybox(run: Run) -> None:
    assert command("host", run)[1:] == [str(run.assets.busybox)]


@pytest.mark.parametrize("name", ["tcg", "xen-tcg", "host", "xenion"])
def test_a_missing_program_is_told_with_what_installs_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    peer = next(peer for peer in PEERS if peer.name == name)
    assert peer.missing() == peers.INSTALL_COMPILER


def test_a_given_folder_without_the_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="has no file vmlinuz-cloud"):
        _ = Assets(tmp_path / "work", tmp_path).cloud_kernel
