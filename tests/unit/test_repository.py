"""Rules of the repository that a test can keep."""

import re
import subprocess
from pathlib import Path

import pytest

from xenion.abi.xen import Hypercall
from xenion.vmm.hypercalls import TABLE
from xenion.vmm.hypercalls.support import page

ROOT = Path(__file__).resolve().parents[2]
LONGEST_FILE = 600


def tracked(*patterns: str) -> list[Path]:
    found = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in found.stdout.splitlines() if (ROOT / name).is_file()]


def test_support_page_is_the_table() -> None:
    assert (ROOT / "docs/support.md").read_text() == page(), "run python -m xenion.vmm.hypercalls.support > docs/support.md"


def test_every_hypercall_is_declared_once() -> None:
    numbers = [entry.number for entry in TABLE]
    assert len(numbers) == len(set(numbers))
    assert {h for h in Hypercall if h.value < 48} == set(numbers)


def test_files_stay_small() -> None:
    long = {str(p): n for p in tracked("src/*.py", "src/*.c", "src/*.h") if (n := len(p.read_text().splitlines())) > LONGEST_FILE}
    assert not long


def test_nothing_is_left_open() -> None:
    marks = re.compile(r"\b(TO" + "DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
    found = [str(p) for p in tracked("src/*", "tests/*.py", "benches/*") if marks.search(p.read_text(errors="ignore"))]
    assert not found


def test_readme_gives_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert "make demo" in text
    assert "make test" in text


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))])
def test_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text()
    targets = re.findall(r"\]\(([^)#:]+)\)", text)
    missing = [t for t in targets if not (ROOT / name).parent.joinpath(t).exists()]
    assert not missing
