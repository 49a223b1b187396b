"""The manual pages are up to date, and man can read them."""

import shutil
import subprocess
from pathlib import Path

import pytest

from xenion.xm.main import names
from xenion.xm.manual import keys_of_configuration, main, page, renewed

FOLDER = Path(__file__).parents[3] / "docs" / "man"


def test_the_pages_are_up_to_date() -> None:
    """Mend it with: python -m xenion.xm.manual docs/man."""
    assert (FOLDER / "xm.1").read_text() == page()
    text = (FOLDER / "xm.cfg.5").read_text()
    assert renewed(text) == text


def test_every_command_has_a_section() -> None:
    sections = [
        line.split()[1].replace("\\-", "-") for line in page().splitlines() if line.startswith(".SS ")
    ]
    assert sections == names()


def test_keys_that_are_acted_on() -> None:
    text = keys_of_configuration()
    assert "\\fBmemory\\fR (" in text
    assert "\\fBon_crash\\fR (" in text
    assert "latency" not in text


def test_stale_pages_are_renewed(tmp_path: Path) -> None:
    text = (FOLDER / "xm.cfg.5").read_text()
    (tmp_path / "xm.cfg.5").write_text(text.replace("\\fBmemory\\fR", "\\fBmemroy\\fR"))
    main(tmp_path)
    assert (tmp_path / "xm.cfg.5").read_text() == text
    assert (tmp_path / "xm.1").read_text() == page()


@pytest.mark.parametrize("name", ["xm.1", "xm.cfg.5"])
def test_man_has_nothing_to_complain_of(name: str) -> None:
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("groff is not installed")
    done = subprocess.run(
        [groff, "-man", "-Tascii", "-ww", "-z", str(FOLDER / name)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
