"""`xm create`."""

import json
from pathlib import Path

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend, Series, domain, outcome, task
from xenion.api.errors import ApiError

NOTE = "note: latency: not supported yet\n"


@pytest.fixture(autouse=True)
def created(xend: FakeXend) -> None:
    xend.answers["create"] = task(result={"domain": domain()})


class Test_a_dry_run:
    def test_shows_the_configuration(self, xm: Xm, xend: FakeXend, config: Path) -> None:
        ran = xm("create", "-n", config, "memory=77")
        assert ran.status == 0
        assert "memory      = 77\n" in ran.out
        assert 'name        = "web"\n' in ran.out
        assert ran.err == ""
        assert xend.asked == []

    def test_has_its_notes_though_quiet(self, xm: Xm, config: Path) -> None:
        assert "# latency: not supported yet\n" in xm("create", "-n", "-q", config).out

    def test_as_json(self, xm: Xm, config: Path) -> None:
        assert json.loads(xm("create", "-n", "--json", config).out)["name"] == "web"


class Test_the_configuration:
    @pytest.mark.parametrize("word", ["memory", "=7", "two words=7", "1st=7"])
    def test_an_override_must_be_name_and_value(self, xm: Xm, config: Path, word: str) -> None:
        ran = xm("create", "-n", config, word)
        assert (ran.status, ran.err) == (2, f'xm: "{word}" is not NAME=VALUE\n')

    def test_a_value_may_hold_equals_signs(self, xm: Xm, config: Path) -> None:
        assert 'cmdline     = "a=b c=d"\n' in xm("create", "-n", config, "extra=a=b c=d").out

    def test_a_bad_one_is_wrong_usage(self, xm: Xm, tmp_path: Path) -> None:
        ran = xm("create", tmp_path / "none.cfg")
        assert ran.status == 2
        assert "cannot be read" in ran.err

    def test_the_file_may_be_an_option(self, xm: Xm, config: Path) -> None:
        for words in (["-f", config, "memory=9"], ["memory=9", "--defconfig", config]):
            assert "memory      = 9\n" in xm("create", "-n", *words).out

    def test_options_may_stand_anywhere(self, xm: Xm, config: Path) -> None:
        ran = xm("create", config, "-q", "memory=9", "-n", "name=other")
        assert "memory      = 9\n" in ran.out
        assert 'name        = "other"\n' in ran.out

    def test_is_needed(self, xm: Xm) -> None:
        assert xm("create").err == "xm: give the configuration file: FILE or -f FILE\n"


class Test_a_domain_is_started:
    def test_and_told(self, xm: Xm, xend: FakeXend, config: Path) -> None:
        ran = xm("create", config, "memory=77")
        assert (ran.status, ran.out, ran.err) == (0, "Started domain web (id=1)\n", NOTE)
        (asked,) = xend.asked
        assert asked.body["config"]["memory_mib"] == 77
        assert asked.body["paused"] is False
        assert len(asked.body["request"]) == 32

    def test_in_silence(self, xm: Xm, config: Path) -> None:
        ran = xm("create", "-q", config)
        assert (ran.status, ran.out, ran.err) == (0, "", "")

    def test_for_programs(self, xm: Xm, config: Path) -> None:
        assert json.loads(xm("create", "--json", config).out) == domain()

    def test_paused(self, xm: Xm, xend: FakeXend, config: Path) -> None:
        assert xm("create", "-p", config).status == 0
        assert xend.asked[0].body["paused"] is True
        assert xend.actions() == ["create"]

    def test_after_a_while(self, xm: Xm, xend: FakeXend, config: Path) -> None:
        xend.answers["create"] = task("running")
        xend.answers["task"] = Series([task("running", seen=1), task(result={"domain": domain()})])
        assert xm("create", config).status == 0
        assert [asked.query["seen"] for asked in xend.asked_for("task")] == ["0", "1"]

    def test_though_xend_was_restarted_meanwhile(self, xm: Xm, xend: FakeXend, config: Path) -> None:
        """The task is forgotten: the same request is made again, and finds what the first one made."""
        xend.answers["create"] = Series([task("running"), task(result={"domain": domain()})])
        xend.answers["task"] = ApiError("no-such-task", "there is no task t1")
        assert xm("create", config).status == 0
        first, second = xend.asked_for("create")
        assert first.body == second.body


class Test_a_refusal:
    @pytest.mark.parametrize(
        "code", ["bad-configuration", "does-not-fit", "refused", "bad-request", "already-exists"]
    )
    def test_is_wrong_usage(self, xm: Xm, xend: FakeXend, config: Path, code: str) -> None:
        xend.answers["create"] = ApiError(code, "it is so")
        ran = xm("create", "-q", "-c", config)
        assert (ran.status, ran.out, ran.err) == (2, "", "xm: it is so\n")

    def test_may_come_late(self, xm: Xm, xend: FakeXend, config: Path) -> None:
        xend.answers["create"] = task("running")
        xend.answers["task"] = task("failed", error={"code": "refused", "message": "no kernel"})
        ran = xm("create", "-q", config)
        assert (ran.status, ran.err) == (2, "xm: no kernel\n")

    def test_may_be_a_failure(self, xm: Xm, xend: FakeXend, config: Path) -> None:
        xend.answers["create"] = ApiError("failed", "the disk is full")
        assert xm("create", "-q", config).status == 1


class Test_in_the_foreground:
    def test_until_the_end(self, xm: Xm, xend: FakeXend, config: Path) -> None:
        xend.answers["outcome"] = Series([outcome("", over=False), outcome()])
        ran = xm("create", "-q", "-F", config)
        assert (ran.status, ran.out, ran.err) == (0, "", "")
        assert [asked.parameters for asked in xend.asked_for("outcome")] == [{"uuid": "uuid-of-web"}] * 2

    def test_a_crash_is_told(self, xm: Xm, xend: FakeXend, config: Path) -> None:
        xend.answers["outcome"] = outcome("crash", report="/r")
        ran = xm("create", "-q", "-F", config)
        assert (ran.status, ran.err) == (1, "xm: the domain crashed; the report is in /r\n")

    def test_one_stops_waiting(
        self, xm: Xm, xend: FakeXend, config: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(*words: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("xenion.xm.outcome.await_outcome", interrupted)
        ran = xm("create", "-q", "-F", config)
        said = 'xm: no longer waiting; web goes on, "xm destroy web" ends it\n'
        assert (ran.status, ran.out, ran.err) == (130, "", said)
        assert xend.actions() == ["create"]

    def test_not_at_the_console_as_well(self, xm: Xm, xend: FakeXend, config: Path) -> None:
        ran = xm("create", "-c", "-F", config)
        assert (ran.status, ran.err) == (2, "xm: -c waits for the end already: leave -F out\n")
        assert xend.asked == []


def test_an_interruption_cancels(
    xm: Xm, xend: FakeXend, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xenion.api.client import Client

    def interrupted(self: Client, *words: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "follow", interrupted)
    xend.answers["create"] = task("running")
    xend.answers["cancel"] = task("cancelled")
    ran = xm("create", "-q", config)
    assert (ran.status, ran.err) == (130, "xm: create of web was cancelled\n")
    assert xend.asked[-1].parameters == {"task": "t1"}
    xend.answers["cancel"] = task("done")
    assert xm("create", "-q", config).err == "xm: create of web was done before it could be cancelled\n"
