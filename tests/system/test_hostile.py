"""Guests that misbehave end as their own crash, and a domain process keeps no right that it does not need."""

import os
import re
import signal
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.conftest import Kernel
    from tests.system.xm import DomainProcess, Xm


def usual(text: str) -> None:
    assert text.startswith("Domain\n")
    for part in ("Registers\n", "rip ", "Last hypercalls", "Last console output\n  hello"):
        assert part in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    "end",
    ["crash", "triple_fault", "garbage", "nop; ud2", "nop; hlt", "nop; int3", "mov 0, %rax", "jmp 0x1000"],
)
def test_a_crash_is_the_guests_own(xm: "Xm", tiny_kernel: "Kernel", end: str) -> None:
    done = xm.create(xm.config("bad", kernel=tiny_kernel(end, "hello\n"), memory=16), timeout_s=30)
    assert (done.status, done.console) == (1, "hello\n")
    (report,) = xm.domain_folder("bad").glob("crash-*.txt")
    assert done.sentence() == f"the domain crashed; the report is in {report}"
    usual(report.read_text())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("end", ["spin", "wait"])
def test_a_guest_that_takes_no_interrupt_can_be_ended(
    xm: "Xm", tiny_kernel: "Kernel", end: str, number: signal.Signals
) -> None:
    config = xm.config(kernel=tiny_kernel(end, "hello\n"), memory=16)
    with xm.conversation(config) as talk:
        talk.wait_for("hello")
        domain = xm.the_domain()
        domain.signal(number)
        assert domain.wait(10)
        done = talk.finish()
    assert done.status == 1
    assert done.sentence().startswith(f"the domain's process ended unexpectedly ({number.name})")


def test_xm_leaves_a_spinning_guest_at_once(xm: "Xm", tiny_kernel: "Kernel") -> None:
    process = xm.start("create", "-c", xm.config(kernel=tiny_kernel("spin", "hello\n"), memory=16))
    assert process.stdout is not None
    assert process.stdout.readline() == b"hello\n"
    process.terminate()
    process.communicate(timeout=10)
    assert process.returncode == 128 + signal.SIGTERM
    domain = xm.the_domain()
    assert domain.alive()
    domain.signal(signal.SIGTERM)
    assert domain.wait(10)


def test_a_guest_that_reboots_at_once_for_ever_is_stopped(xm: "Xm", tiny_kernel: "Kernel") -> None:
    config = xm.config(kernel=tiny_kernel("reboot", "hello\n"), memory=16, on_reboot="restart")
    done = xm.create(config)
    assert (done.status, done.console) == (0, "hello\n")
    assert done.sentence() == "the guest ended within a second of its start and is not restarted"


def access(domain: "DomainProcess", fd: str) -> int:
    """O_RDONLY, O_WRONLY or O_RDWR."""
    found = re.search(r"^flags:\t(\d+)$", domain.facts(f"fdinfo/{fd}"), re.M)
    assert found
    return int(found[1], 8) & os.O_ACCMODE


def writable(domain: "DomainProcess", fd: str) -> bool:
    return access(domain, fd) != os.O_RDONLY


class Test_the_process_of_a_domain:
    @pytest.fixture
    def domain(self, xm: "Xm", tiny_kernel: "Kernel") -> "Iterator[DomainProcess]":
        config = xm.config("quiet", kernel=tiny_kernel("wait", "hello\n"), memory=16)
        with xm.conversation(config) as talk:
            talk.wait_for("hello")
            domain = xm.the_domain()
            yield domain
            domain.signal(signal.SIGKILL)
            talk.finish()

    def test_may_make_few_system_calls(self, domain: "DomainProcess") -> None:
        for task in Path(f"/proc/{domain.pid}/task").iterdir():
            status = (task / "status").read_text()
            assert re.search(r"^Seccomp:\t2$", status, re.M), f"{task}: {status}"
            assert re.search(r"^NoNewPrivs:\t1$", status, re.M), status

    def test_dumps_no_core(self, domain: "DomainProcess") -> None:
        assert re.search(r"^Max core file size +0 +0 ", domain.facts("limits"), re.M)

    def test_has_a_session_of_its_own(self, domain: "DomainProcess") -> None:
        assert os.getsid(domain.pid) == domain.pid

    def test_has_only_the_descriptors_it_needs(self, xm: "Xm", domain: "DomainProcess") -> None:
        """Sockets and memory of its own, its files, its lock and journal, what it boots again from, to read, and which
        pages of its own memory have been written."""
        folders = xm.domain_folder("quiet"), xm.run_folder / "xenion" / "domains"
        kernel = next(line for line in (xm.folder / "quiet.cfg").read_text().splitlines() if "kernel" in line)
        for entry in Path(f"/proc/{domain.pid}/fd").iterdir():
            target = str(entry.readlink())
            mode = entry.stat().st_mode
            own = target.startswith(("anon_inode:", "/memfd:", "pipe:", "socket:")) or target == "/dev/null"
            own = own or (target == f"/proc/{domain.pid}/pagemap" and not writable(domain, entry.name))
            own = own or any(Path(target).is_relative_to(folder) for folder in folders)
            assert own or (target in kernel and not writable(domain, entry.name)), target
            assert not stat.S_ISBLK(mode)
            assert not (stat.S_ISCHR(mode) and target != "/dev/null"), target

    def test_keeps_no_file_open_for_reading(self, xm: "Xm", domain: "DomainProcess") -> None:
        for entry in Path(f"/proc/{domain.pid}/fdinfo").iterdir():
            target = str(Path(f"/proc/{domain.pid}/fd/{entry.name}").readlink())
            if Path(target).is_relative_to(xm.domain_folder("quiet")) and not Path(target).is_dir():
                assert access(domain, entry.name) == os.O_WRONLY, target

    def test_is_in_its_folder_and_nobody_elses(self, xm: "Xm", domain: "DomainProcess") -> None:
        folder = xm.domain_folder("quiet")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        for path in folder.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert (folder / "console.log").exists()


def test_what_is_left_of_a_domain(xm: "Xm", tiny_kernel: "Kernel") -> None:
    """After a good end the console's log, after a crash its report too; no empty files."""
    xm.create(xm.config("good", kernel=tiny_kernel("poweroff", "hello\n"), memory=16))
    assert (xm.domain_folder("good") / "console.log").read_text() == "hello\n"
    assert not list(xm.domain_folder("good").glob("crash-*"))
    xm.create(xm.config("bad", kernel=tiny_kernel("crash", "hello\n"), memory=16))
    assert len(list(xm.domain_folder("bad").glob("crash-*"))) == 1


def test_the_log_of_a_domain_that_was_left_holds_only_its_words(xm: "Xm", tiny_kernel: "Kernel") -> None:
    """Nobody hears what the process tells then: it must not land in the guest's log."""
    kernel = tiny_kernel("reboot", "hello\n", times=100000)  # more than is kept for a slow reader
    config = xm.config("alone", kernel=kernel, memory=16, on_reboot="restart")
    process = xm.start("create", "-c", config)
    assert process.stdout is not None
    assert process.stdout.readline() == b"hello\n"
    domain = xm.the_domain()
    process.kill()
    process.communicate()
    assert domain.wait(30)
    assert set((xm.domain_folder("alone") / "console.log").read_text().splitlines()) == {"hello"}
