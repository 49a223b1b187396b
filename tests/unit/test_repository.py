"""Rules of the repository that a test can keep."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from xenion.abi.xen import Hypercall
from xenion.vmm.hypercalls import TABLE
from xenion.vmm.hypercalls.support import page

ROOT = Path(__file__).resolve().parents[2]
LONGEST_FILE = 600


def tracked(*patterns: str) -> list[Path]:
    if shutil.which("git") is None:
        pytest.skip("git is not here: install git")
    found = subprocess.run(
        ["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if found.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in found.stdout.splitlines() if (ROOT / name).is_file()]


def test_support_page_is_the_table() -> None:
    """Mend it with: python -m xenion.vmm.hypercalls.support > docs/support.md."""
    assert (ROOT / "docs/support.md").read_text() == page()


def test_every_hypercall_is_declared_once() -> None:
    numbers = [entry.number for entry in TABLE]
    assert len(numbers) == len(set(numbers))
    assert {h for h in Hypercall if h.value < 48} == set(numbers)


def test_files_stay_small() -> None:
    lengths = {str(p): len(p.read_text().splitlines()) for p in tracked("src/*.py", "src/*.c", "src/*.h")}
    assert not {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE}


def test_nothing_is_left_open() -> None:
    marks = re.compile(r"\b(TO" + "DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
    found = [
        str(p)
        for p in tracked("src/*", "tests/*.py", "benches/*")
        if marks.search(p.read_text(errors="ignore"))
    ]
    assert not found


def test_readme_gives_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert "make demo" in text
    assert "make test" in text


DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    *(f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md"))),
]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text()
    targets = re.findall(r"\]\(([^)#:]+)\)", text)
    missing = [t for t in targets if not (ROOT / name).parent.joinpath(t).exists()]
    assert not missing


@pytest.mark.parametrize("name", ["docs/architecture.md", "docs/internals.md"])
def test_paths_are_there(name: str) -> None:
    """Of modules and folders, below src/xenion or from the root; names of one part may be without their folder."""
    text = (ROOT / name).read_text()
    paths = set(re.findall(r"(?<![\w/.])[a-z_]\w*(?:/\w+)*(?:\.(?:py|c|h)\b|/(?=[\s`,;)]))", text))
    assert len(paths) > 10
    source = ROOT / "src/xenion"
    known = {path.name for path in source.rglob("*")}

    def is_there(path: str) -> bool:
        parts = path.rstrip("/").split("/")
        return (source / path).exists() or (ROOT / path).exists() or (len(parts) == 1 and parts[0] in known)

    assert not [path for path in paths if not is_there(path)]
