"""What domains get of the host's CPUs: weights and caps as xm shows them, and what the kernel was told of them."""

import json
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.system.other_user import Other

if TYPE_CHECKING:
    from tests.system.conftest import Kernel
    from tests.system.xm import Xm


def test_shares_are_shown_and_changed(xm: "Xm", tiny_kernel: "Kernel") -> None:
    kernel = tiny_kernel("spin", "hello\n")
    config = xm.config("busy", kernel=kernel, memory=16, cpu_weight=512, cap=40, cpus="0")
    assert xm.run("create", "-q", config).status == 0
    pid = xm.the_domain().pid
    (share,) = xm.json("sched-credit", "-d", "busy")
    assert (share["weight"], share["cap"], share["cpus"]) == (512, 40, "0")
    assert xm.run("sched-credit", "-d", "busy", "-w", "128", "-c", "0").status == 0
    shown = xm.run("sched-credit").lines
    assert shown[0].split() == ["Name", "ID", "Weight", "Cap"]
    assert shown[1].split() == ["busy", "1", "128", "0"]
    assert xm.run("vcpu-pin", "busy", "all", "all").status == 0
    assert os.sched_getaffinity(pid) == os.sched_getaffinity(0)
    assert xm.run("vcpu-pin", "busy", "0", "0").status == 0
    assert {
        frozenset(os.sched_getaffinity(int(task.name))) for task in Path(f"/proc/{pid}/task").iterdir()
    } == {frozenset({0})}
    assert "none of the host's CPUs" in xm.run("vcpu-pin", "busy", "0", "4000").sentence()
    assert [vcpu["affinity"] for vcpu in xm.json("vcpu-list", "busy")] == ["0"]
    assert xm.run("destroy", "busy").status == 0


def test_a_new_xend_keeps_them(xm: "Xm", tiny_kernel: "Kernel") -> None:
    config = xm.config("busy", kernel=tiny_kernel("spin", "hello\n"), memory=16)
    assert xm.run("create", "-q", config).status == 0
    assert xm.run("sched-credit", "-d", "busy", "-w", "77", "-c", "30").status == 0
    xm.stop_xend()
    (share,) = xm.json("sched-credit", "-d", "busy")
    assert (share["weight"], share["cap"]) == (77, 30)
    assert xm.run("destroy", "busy").status == 0


def cpu_seconds(pid: int) -> float:
    """Of the domain's process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_cap_without_groups_holds_the_guest_now_and_then(other: Other, tiny_kernel: "Kernel") -> None:
    """Its process sees to that itself: it gets no more than its share, and two periods' worth that it had not used."""
    kernel, percent = other.xm.folder / "kernel", 20
    shutil.copy(tiny_kernel("spin", "hello\n"), kernel)
    kernel.chmod(0o644)
    config = other.xm.config("busy", kernel=kernel, memory=16, cap=percent)
    made = other.run("create", "-q", config)
    assert made.returncode == 0, made.stderr
    (share,) = json.loads(other.run("sched-credit", "--json", "-d", "busy").stdout)
    assert share["cap"] == percent
    if share["mechanism"].startswith("cgroup"):
        pytest.skip("another user may use control groups here: they keep caps")
    (process,) = other.xm.domains()
    began, before = time.monotonic(), cpu_seconds(process.pid)
    while (used := cpu_seconds(process.pid) - before) < 0.4:
        assert process.alive()
        time.sleep(0.02)
    assert used / (time.monotonic() - began) < 1.5 * percent / 100
    assert other.run("pause", "busy").returncode == 0
    assert other.run("sched-credit", "-d", "busy", "-c", "0").returncode == 0
    assert "--p" in other.run("vcpu-list", "busy").stdout, "a cap that goes ends no pause"
    assert other.run("destroy", "busy").returncode == 0


def test_cpus_that_the_host_has_not_are_refused(xm: "Xm", tiny_kernel: "Kernel") -> None:
    config = xm.config("busy", kernel=tiny_kernel("spin", "hello\n"), memory=16, cpus="4000")
    done = xm.run("create", config)
    assert done.status != 0
    assert "none of the host's CPUs" in done.sentence()
