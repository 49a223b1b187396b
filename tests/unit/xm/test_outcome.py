"""What became of a domain, in the words that people know."""

import select
from pathlib import Path
from typing import Any

import pytest

from tests.unit.xm.fake_xend import Broken, FakeXend, Series, domain, outcome
from xenion.api.errors import ApiError
from xenion.api.folders import folders
from xenion.xm import outcome as module
from xenion.xm.outcome import Watch, sentence_of, tell

KEPT = {"action": "preserve"}


@pytest.mark.parametrize(
    ("happened", "sentence"),
    [
        (outcome(), ""),
        (outcome("reboot"), ""),
        (outcome(**KEPT), 'the domain has stopped and is preserved: "xm destroy web" ends it'),
        (outcome("crash", report="/r"), "the domain crashed; the report is in /r"),
        (outcome("crash", core="/c"), "the domain crashed; the core is in /c"),
        (outcome("watchdog", report="/r"), "the domain was ended by its own watchdog; the report is in /r"),
        (outcome("suspend"), "the domain suspended itself, and nothing can resume it yet"),
        (outcome("crash", **KEPT), 'the domain crashed; it is preserved until "xm destroy web"'),
        (outcome("destroyed"), "the domain was destroyed"),
        (outcome("saved"), "the domain was saved: `xm restore` lets it go on"),
        (outcome("migrated"), "the domain has moved to another host"),
        (outcome("oddly"), "the domain ended (oddly)"),
        (
            outcome("died"),
            "the domain's process ended unexpectedly and the guest with it",
        ),
        (
            outcome("died", status="exit status 3"),
            "the domain's process ended unexpectedly (exit status 3) and the guest with it",
        ),
    ],
)
def test_sentences(happened: Any, sentence: str) -> None:
    assert sentence_of(happened, domain()) == sentence


def test_what_the_process_has_said_is_named(tmp_path: Path) -> None:
    (tmp_path / "process.log").write_text("a traceback")
    sentence = sentence_of(outcome("died"), {**domain(), "folder": str(tmp_path)})
    assert sentence.endswith(f"; see {tmp_path}/process.log")


@pytest.mark.parametrize(
    ("reason", "status"),
    [("poweroff", 0), ("reboot", 0), ("crash", 1), ("destroyed", 1), ("saved", 0), ("migrated", 0)],
)
def test_statuses(reason: str, status: int) -> None:
    assert tell(outcome(reason), domain()) == status


@pytest.mark.parametrize("last", [outcome(), ApiError("no-such-domain", "long ago")])
def test_a_watch_sees_the_end_though_xend_dies(
    xend: FakeXend, monkeypatch: pytest.MonkeyPatch, last: Any
) -> None:
    monkeypatch.setattr(module, "AGAIN_S", 0.0)
    xend.answers["outcome"] = Series([outcome(over=False), *[Broken()] * 6, last])
    watch = Watch(folders(), "uuid-of-web")
    try:
        assert select.select([watch.fd], [], [], 20)[0]
    finally:
        watch.close()
    assert {asked.parameters["uuid"] for asked in xend.asked} == {"uuid-of-web"}
