"""Where a domain's files are."""

from pathlib import Path

import pytest

from xenion.domain import paths


def test_the_chosen_folder_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert paths.domain_folder("web") == tmp_path / "xenion" / "domains" / "web"


@pytest.mark.parametrize(
    ("user", "folder"), [(0, "/var/lib/xenion"), (1000, "/home/somebody/.local/state/xenion")]
)
def test_else_root_and_users_have_their_own(monkeypatch: pytest.MonkeyPatch, user: int, folder: str) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setattr("os.geteuid", lambda: user)
    assert paths.state_folder() == Path(folder)
