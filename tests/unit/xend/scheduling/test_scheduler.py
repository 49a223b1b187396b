"""Which way of keeping shares is chosen, and what becomes of failures."""

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from xenion.api.errors import ApiError
from xenion.xend.live import Live
from xenion.xend.record import Share
from xenion.xend.scheduling import affinity, cgroups, niceness
from xenion.xend.scheduling.scheduler import WITHOUT, Scheduler

PID = 4321


class FakeGroups:
    name = "cgroup v9"

    def __init__(self) -> None:
        self.done: list[tuple[Any, ...]] = []
        self.failure: OSError | None = None

    def set(self, *values: Any) -> None:
        if self.failure is not None:
            raise self.failure
        self.done.append(("set", *values))

    def remove(self, uuid: str) -> None:
        self.done.append(("remove", uuid))

    def sweep(self) -> None:
        self.done.append(("sweep",))


class Kept:
    """A scheduler, one domain, and what was done to its process."""

    def __init__(self) -> None:
        self.groups = FakeGroups()
        self.found: FakeGroups | None = self.groups
        self.did: list[tuple[Any, ...]] = []
        self.pin_failure: OSError | None = None
        self.nice_failure: OSError | None = None
        self.cap_failure: ApiError | None = None
        self._scheduler: Scheduler | None = None

    @property
    def scheduler(self) -> Scheduler:
        if self._scheduler is None:
            self._scheduler = Scheduler(Path("/run/xenion"))
        return self._scheduler

    def live(self, share: Share, pid: int | None = PID) -> Live:
        async def ask(what: str, **fields: Any) -> dict[str, Any]:
            if self.cap_failure is not None:
                raise self.cap_failure
            self.did.append((what, fields))
            return {}

        record = SimpleNamespace(share=share)
        return cast(Live, SimpleNamespace(record=record, pid=pid, uuid="u", name="web", ask=ask))

    def apply(self, share: Share, pid: int | None = PID) -> None:
        asyncio.run(self.scheduler.apply(self.live(share, pid)))

    def refusal(self, share: Share) -> tuple[str, str]:
        with pytest.raises(ApiError) as caught:
            self.apply(share)
        return caught.value.code, caught.value.message

    def pin(self, pid: int, cpus: frozenset[int]) -> None:
        if self.pin_failure is not None:
            raise self.pin_failure
        self.did.append(("pin", pid, set(cpus)))

    def nice(self, pid: int, weight: int) -> None:
        if self.nice_failure is not None:
            raise self.nice_failure
        self.did.append(("nice", pid, weight))


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    made = Kept()
    monkeypatch.setattr(cgroups, "find", lambda run_folder, proc: made.found)
    monkeypatch.setattr(affinity, "pin", made.pin)
    monkeypatch.setattr(niceness, "set_share", made.nice)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    return made


@pytest.fixture
def alone(kept: Kept) -> Kept:
    """Without control groups."""
    kept.found = None
    return kept


def test_groups_keep_weight_and_cap(kept: Kept) -> None:
    kept.apply(Share(512, 50, ""))
    assert kept.groups.done == [("set", "u", PID, 512, 50)]
    assert (kept.did, kept.scheduler.mechanism) == ([], "cgroup v9")


def test_without_them_nice_values_and_the_process_do(alone: Kept) -> None:
    alone.apply(Share(512, 50, ""))
    assert alone.did == [("nice", PID, 512), ("cap", {"percent": 50})]
    assert alone.scheduler.mechanism == WITHOUT


def test_a_domain_that_has_cpus_is_pinned_either_way(kept: Kept) -> None:
    kept.apply(Share(256, 0, "0-3,^1"))
    assert kept.did == [("pin", PID, {0, 2, 3})]


def test_groups_that_fail_are_given_up(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    kept.groups.failure = PermissionError(13, "Permission denied")
    kept.apply(Share(512, 50, ""))
    assert kept.did == [("nice", PID, 512), ("cap", {"percent": 50})]
    assert [record.getMessage() for record in caplog.records] == [
        "cgroup v9 cannot be used: [Errno 13] Permission denied"
    ]
    kept.groups.failure = None
    kept.apply(Share(256, 0, ""))
    assert kept.groups.done == []
    assert kept.scheduler.mechanism == WITHOUT


def test_a_domain_without_a_process_is_left_alone(kept: Kept) -> None:
    kept.apply(Share(512, 50, "0"), pid=None)
    assert (kept.did, kept.groups.done) == ([], [])


@pytest.mark.parametrize("error", [ProcessLookupError(3, "No such process"), FileNotFoundError(2, "none")])
@pytest.mark.parametrize("where", ["pin", "nice"])
def test_a_process_that_goes_meanwhile_is_no_failure(alone: Kept, where: str, error: OSError) -> None:
    setattr(alone, f"{where}_failure", error)
    alone.apply(Share(512, 50, "0"))


def test_a_process_that_goes_meanwhile_does_not_speak_against_groups(
    kept: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    kept.groups.failure = ProcessLookupError(3, "No such process")
    kept.apply(Share(512, 50, ""))
    assert (kept.did, caplog.records, kept.scheduler.mechanism) == ([], [], "cgroup v9")


def test_a_nice_value_that_cannot_rise_is_no_failure(alone: Kept) -> None:
    alone.nice_failure = PermissionError(1, "Operation not permitted")
    alone.apply(Share(512, 50, ""))
    assert alone.did == [("cap", {"percent": 50})]


@pytest.mark.parametrize("where", ["pin", "nice"])
def test_other_failures_are_told(alone: Kept, where: str) -> None:
    setattr(alone, f"{where}_failure", OSError(5, "Input/output error"))
    said = "web keeps its share of the CPUs: Input/output error"
    assert alone.refusal(Share(512, 50, "0")) == ("failed", said)


def test_cpus_that_cannot_be_are_a_bad_request(kept: Kept) -> None:
    code, message = kept.refusal(Share(512, 50, "7"))
    assert (code, kept.did, kept.groups.done) == ("bad-request", [], [])
    assert 'cpus "7" has none of the host\'s CPUs' in message


def test_a_process_that_refuses_a_cap_is_heard(alone: Kept) -> None:
    alone.cap_failure = ApiError("wrong-state", "not now")
    assert alone.refusal(Share(512, 50, "")) == ("wrong-state", "not now")


def test_groups_are_removed_and_swept(kept: Kept) -> None:
    kept.scheduler.forget(kept.live(Share()))
    kept.scheduler.sweep()
    assert kept.groups.done == [("remove", "u"), ("sweep",)]


def test_without_groups_there_is_nothing_to_remove(alone: Kept) -> None:
    alone.scheduler.forget(alone.live(Share()))
    alone.scheduler.sweep()
    assert alone.did == []


def test_groups_that_were_given_up_are_removed_as_well(kept: Kept) -> None:
    kept.apply(Share(512, 50, ""))
    kept.groups.failure = OSError(5, "Input/output error")
    kept.apply(Share(256, 0, ""))
    kept.scheduler.forget(kept.live(Share()))
    assert kept.groups.done[-1] == ("remove", "u")
