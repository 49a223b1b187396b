"""What became of domains is known for a while, over restarts."""

from pathlib import Path

import pytest

from tests.unit.xend.kit import names
from xenion.xend import outcomes
from xenion.xend.outcomes import Outcomes


def test_kept_and_found(tmp_path: Path) -> None:
    made = Outcomes(tmp_path)
    made.put("a", {"reason": "crash", "request": "word"})
    made.put("b", {"reason": "poweroff", "request": ""})
    for again in (made, Outcomes(tmp_path)):
        assert again.get("a") == again.of_request("word") == {"reason": "crash", "request": "word"}
        assert again.get("c") is again.of_request("other") is again.of_request("") is None
    made.put("a", {"reason": "again", "request": "second"})
    assert made.of_request("word") is None, "the domain's latest end counts"
    assert made.of_request("second") == {"reason": "again", "request": "second"}


def test_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, "KEPT", 3)
    made = Outcomes(tmp_path)
    for uuid in "abcad":
        made.put(uuid, {"request": uuid})
    assert names(tmp_path / "outcomes") == ["a.json", "c.json", "d.json"]
    Outcomes(tmp_path).put("e", {})
    assert names(tmp_path / "outcomes") == ["a.json", "d.json", "e.json"]


def test_what_makes_no_sense_is_nothing(tmp_path: Path) -> None:
    made = Outcomes(tmp_path)
    made.put("a", {"request": "word"})
    for text in ("[1]", "{", "3"):
        (tmp_path / "outcomes" / "a.json").write_text(text)
        assert Outcomes(tmp_path).get("a") is made.of_request("word") is None
