"""Control groups, in folders that look like them."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.config.domain import CAP_MAX, WEIGHT_MAX
from xenion.xend.scheduling.cgroups import PERIOD_US, Groups, find

LEAST_US = 1000
"""The kernel takes no quota that is shorter (kernel/sched/core.c, min_cfs_quota_period)."""
RUN = Path("/run/xenion")
V1, V2 = "v1/cpu,cpuacct", "v2"


class Host:
    """Its proc/self and the roots of its control groups."""

    def __init__(self, at: Path) -> None:
        self.at = at
        self.proc = at / "proc"
        self.proc.mkdir()
        self.mounts, self.own = ["proc /proc proc rw 0 0"], ["1:name=systemd:/", "0::/session"]
        self.write()

    def write(self) -> None:
        for name, lines in (("mounts", self.mounts), ("cgroup", self.own)):
            (self.proc / name).write_text("".join(f"{line}\n" for line in lines))

    def v1(self, own: str = "/") -> Path:
        """The group that xend is in."""
        root = self.at / V1
        group = root / own.lstrip("/")
        group.mkdir(parents=True)
        self.mounts += [
            f"cgroup {self.at / 'v1/cpuset'} cgroup rw,cpuset 0 0",
            f"cgroup {root} cgroup rw,nosuid,cpu,cpuacct 0 0",
        ]
        self.own.insert(0, f"4:cpu,cpuacct:{own}")
        self.write()
        return group

    def v2(self, controllers: str | None = "cpuset cpu memory") -> Path:
        root = self.at / V2
        root.mkdir()
        if controllers is not None:
            (root / "cgroup.controllers").write_text(f"{controllers}\n")
        (root / "cgroup.subtree_control").write_text("")
        self.mounts.append(f"cgroup2 {root} cgroup2 rw 0 0")
        self.write()
        return root

    def groups(self) -> Groups | None:
        return find(RUN, self.proc)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def found(host: Host) -> Groups:
    groups = host.groups()
    assert groups is not None
    return groups


def delegating(host: Host, controllers: str = "") -> Groups:
    """Of version 2, with the file that the kernel makes in a new group."""
    host.v2()
    groups = found(host)
    groups.folder.mkdir()
    (groups.folder / "cgroup.subtree_control").write_text(controllers)
    return groups


def values(groups: Groups, uuid: str = "u") -> dict[str, str]:
    return {path.name: path.read_text() for path in (groups.folder / uuid).iterdir()}


# --- where they are


def test_there_may_be_none(host: Host) -> None:
    assert host.groups() is None


@pytest.mark.parametrize("own", ["/", "/user.slice/me"])
def test_version_1_is_used_where_xend_itself_is(host: Host, own: str) -> None:
    group = host.v1(own)
    groups = found(host)
    assert (groups.folder.parent, groups.version, groups.name) == (group, 1, "cgroup v1")
    assert list(group.iterdir()) == [], "none is made yet"


def test_version_2_is_used_at_its_root(host: Host) -> None:
    root = host.v2()
    groups = found(host)
    assert (groups.folder.parent, groups.version, groups.name) == (root, 2, "cgroup v2")


@pytest.mark.parametrize("first", [1, 2])
def test_version_2_wins_over_version_1(host: Host, first: int) -> None:
    for make in (host.v1, host.v2) if first == 1 else (host.v2, host.v1):
        make()
    assert found(host).version == 2


@pytest.mark.parametrize("controllers", [None, "", "cpuset memory"])
def test_a_version_2_without_the_cpu_controller_is_of_no_use(host: Host, controllers: str | None) -> None:
    host.v2(controllers)
    assert host.groups() is None
    host.v1()
    assert found(host).version == 1


def test_what_xend_may_not_write_is_not_used(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, root = host.v1("/me"), host.v2()
    writable = {mine}
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.W_OK and path in writable)
    assert found(host).version == 1
    writable.clear()
    assert host.groups() is None
    writable.add(root)
    assert found(host).version == 2


def test_a_mount_that_does_not_show_xends_own_group_is_not_used(host: Host) -> None:
    host.v1("/elsewhere").rmdir()
    assert host.groups() is None


def test_each_xend_has_its_own(host: Host) -> None:
    host.v1()
    other = find(Path("/run/user/1000/xenion"), host.proc)
    assert other is not None
    assert found(host).folder == found(host).folder
    assert found(host).folder != other.folder
    assert other.folder.name.startswith("xenion-")


# --- what is set


@pytest.mark.parametrize(
    ("weight", "cap", "shares", "quota"),
    [(256, 0, "1024", "-1"), (512, 50, "2048", "5000"), (1, 10, "4", "1000"), (WEIGHT_MAX, 250, "262140", "25000")],
)  # fmt: skip
def test_values_of_version_1(host: Host, weight: int, cap: int, shares: str, quota: str) -> None:
    host.v1()
    groups = found(host)
    groups.set("u", 123, weight, cap)
    assert values(groups) == {
        "cpu.shares": shares,
        "cpu.cfs_period_us": str(PERIOD_US),
        "cpu.cfs_quota_us": quota,
        "cgroup.procs": "123",
    }


@pytest.mark.parametrize(
    ("weight", "cap", "share", "most"),
    [
        (256, 0, "100", f"max {PERIOD_US}"),
        (512, 50, "200", f"5000 {PERIOD_US}"),
        (1, 10, "1", f"1000 {PERIOD_US}"),
        (WEIGHT_MAX, 250, "10000", f"25000 {PERIOD_US}"),
    ],
)
def test_values_of_version_2(host: Host, weight: int, cap: int, share: str, most: str) -> None:
    groups = delegating(host)
    groups.set("u", 123, weight, cap)
    assert values(groups) == {"cpu.weight": share, "cpu.max": most, "cgroup.procs": "123"}


@given(st.integers(1, WEIGHT_MAX), st.sampled_from([1, 2]))
def test_any_weight_is_one_that_the_kernel_takes(weight: int, version: int) -> None:
    written = dict(Groups(Path("/nowhere"), version)._values(weight, 0))
    if version == 1:
        assert 2 <= int(written["cpu.shares"]) <= 262144
    else:
        assert 1 <= int(written["cpu.weight"]) <= 10000


@given(st.integers(1, CAP_MAX), st.sampled_from([1, 2]))
def test_any_cap_is_one_that_the_kernel_takes(cap: int, version: int) -> None:
    written = dict(Groups(Path("/nowhere"), version)._values(256, cap))
    if version == 1:
        quota, period = int(written["cpu.cfs_quota_us"]), int(written["cpu.cfs_period_us"])
    else:
        quota, period = map(int, written["cpu.max"].split())
    assert LEAST_US <= period <= 1_000_000
    assert quota >= LEAST_US
    assert 100 * quota / period == pytest.approx(cap, rel=0.01)


def test_set_again_they_are_replaced(host: Host) -> None:
    groups = delegating(host)
    groups.set("u", 123, 512, 50)
    groups.set("u", 124, 256, 0)
    groups.set("v", 125, 256, 0)
    told = {"cpu.weight": "100", "cpu.max": f"max {PERIOD_US}"}
    assert values(groups) == {**told, "cgroup.procs": "124"}
    assert values(groups, "v") == {**told, "cgroup.procs": "125"}


def test_version_2_hands_the_controller_down(host: Host) -> None:
    groups = delegating(host)
    groups.set("u", 123, 256, 0)
    for folder in (groups.folder.parent, groups.folder):
        assert (folder / "cgroup.subtree_control").read_text() == "+cpu"


def test_what_has_the_controller_is_left_as_it_is(host: Host) -> None:
    groups = delegating(host, "cpuset cpu\n")
    (groups.folder.parent / "cgroup.subtree_control").write_text("cpu memory\n")
    groups.set("u", 123, 256, 0)
    assert (groups.folder / "cgroup.subtree_control").read_text() == "cpuset cpu\n"
    assert (groups.folder.parent / "cgroup.subtree_control").read_text() == "cpu memory\n"


def test_what_cannot_be_set_is_told(host: Host) -> None:
    host.v1().joinpath("in the way").touch()
    with pytest.raises(OSError, match="Not a directory"):
        Groups(host.at / V1 / "in the way" / "x", 1).set("u", 1, 256, 0)


# --- their end


@pytest.fixture
def made(host: Host) -> Groups:
    """Empty ones of domains a and b; on a real file system their files are no hindrance."""
    host.v1()
    groups = found(host)
    for uuid in ("a", "b"):
        (groups.folder / uuid).mkdir(parents=True)
    return groups


def test_the_last_domains_end_removes_the_folder(made: Groups) -> None:
    made.remove("a")
    assert [path.name for path in made.folder.iterdir()] == ["b"]
    made.remove("b")
    assert not made.folder.exists()
    assert made.folder.parent.exists()
    made.remove("b")


def test_a_group_with_processes_stays(made: Groups) -> None:
    (made.folder / "a" / "somebody").touch()
    made.remove("a")
    assert (made.folder / "a").exists()


def test_empty_groups_are_swept(made: Groups) -> None:
    (made.folder / "cpu.shares").touch()
    (made.folder / "b" / "somebody").touch()
    made.sweep()
    assert sorted(path.name for path in made.folder.iterdir()) == ["b", "cpu.shares"]


def test_sweeping_removes_the_folder_as_well(made: Groups) -> None:
    made.sweep()
    assert not made.folder.exists()
    made.sweep()
