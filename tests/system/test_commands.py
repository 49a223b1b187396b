"""The commands that start nothing."""

import json
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import pytest

from tests.system.xm import ROOT, command

if TYPE_CHECKING:
    from tests.system.conftest import Kernel
    from tests.system.xm import Xm


@pytest.fixture
def installed() -> str:
    try:
        return version("xenion")
    except PackageNotFoundError:
        pytest.skip("xenion is on the path but not installed, so it has no version: make setup")


def test_version_for_programs(xm: "Xm", installed: str) -> None:
    done = xm.run("version", "--json")
    assert (done.status, done.stderr) == (0, "")
    facts = json.loads(done.stdout)
    assert facts["xenion"] == installed
    assert facts["xen_abi"] == "4.17"
    assert {"unicorn", "python", "host"} <= facts.keys()


@pytest.mark.parametrize("word", ["version", "ver", "-V", "--version"])
def test_version_for_people(xm: "Xm", installed: str, word: str) -> None:
    done = xm.run(word)
    assert done.status == 0
    assert f"xenion     {installed}" in done.lines


@pytest.mark.parametrize("words", [[], ["help"], ["-h"], ["--help"], ["h"]])
def test_help_lists_every_command(xm: "Xm", words: list[str]) -> None:
    done = xm.run(*words)
    assert (done.status, done.stderr) == (0, "")
    assert done.lines[0] == "usage: xm COMMAND [ARGUMENT ...]"
    listed = {line.split()[0] for line in done.lines if line.startswith("  ")}
    assert listed >= {"create", "help", "version"}


@pytest.mark.parametrize("words", [["help", "create"], ["create", "-h"], ["cr", "--help"]])
def test_help_of_a_command(xm: "Xm", words: list[str]) -> None:
    done = xm.run(*words)
    assert (done.status, done.stderr) == (0, "")
    assert done.lines[0].startswith("usage: xm create")
    assert "Exit status: " in done.console


class Test_a_dry_run:
    def test_shows_what_can_be_read_again(self, xm: "Xm", tiny_kernel: "Kernel") -> None:
        config = xm.config("web", kernel=tiny_kernel("poweroff"), extra='quote=" back=\\', memory=33)
        shown = xm.run("create", "-n", config, "on_crash=restart")
        assert (shown.status, shown.stderr) == (0, "")
        assert "memory      = 33" in shown.lines
        assert 'on_crash    = "restart"' in shown.lines
        again = xm.folder / "again.cfg"
        again.write_bytes(shown.stdout)
        assert xm.run("create", "-n", again).stdout == shown.stdout

    def test_as_json(self, xm: "Xm", tiny_kernel: "Kernel") -> None:
        kernel = tiny_kernel("poweroff")
        shown = xm.run("create", "-n", "--json", xm.config("web", kernel=kernel))
        assert json.loads(shown.stdout)["kernel"] == str(kernel)
        assert json.loads(shown.stdout)["name"] == "web"

    def test_starts_nothing(self, xm: "Xm", tiny_kernel: "Kernel") -> None:
        xm.run("create", "-n", xm.config(kernel=tiny_kernel("poweroff")))
        assert not xm.state.exists()


def test_notes_go_to_standard_error_unless_quiet(xm: "Xm", tiny_kernel: "Kernel") -> None:
    config = xm.config(kernel=tiny_kernel("poweroff", "hello\n"), latency=512)
    noted = xm.create(config)
    assert (noted.status, noted.console) == (0, "hello\n")
    assert noted.stderr == "note: latency: not supported yet\n"
    assert xm.create(config, "-q").stderr == ""


def test_a_reader_that_goes_away_is_no_error_of_ours(xm: "Xm") -> None:
    """`xm help | true`: no traceback, and the output's end is not the user's trouble."""
    first = subprocess.Popen(
        ["sh", "-c", '"$@" | true', "sh", *command(), "help"],
        env=xm.environment,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    _, complaint = first.communicate(timeout=30)
    assert complaint == ""


def test_a_console_reader_that_goes_away_ends_xm(xm: "Xm", tiny_kernel: "Kernel") -> None:
    config = xm.config(kernel=tiny_kernel("poweroff", "hello\n", times=9000), memory=16)
    done = subprocess.run(
        ["sh", "-c", '"$@" | head -n 1', "sh", *command(), "create", "-c", str(config)],
        env=xm.environment,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.stdout == "hello\n"
    assert done.stderr == ""
    for domain in xm.domains():
        assert domain.wait(20), "the guest powers off, whoever reads"


@pytest.mark.parametrize("closed", ["<&-", "</dev/null"])
def test_nobody_types(xm: "Xm", tiny_kernel: "Kernel", closed: str) -> None:
    config = xm.config(kernel=tiny_kernel("poweroff", "hello\n"), memory=16)
    done = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *command(), "create", "-c", str(config)],
        env=xm.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")


def test_destroy_ends_a_domain(xm: "Xm", tiny_kernel: "Kernel") -> None:
    config = xm.config("waits", kernel=tiny_kernel("wait", "up\n"), memory=16)
    with xm.conversation(config) as talk:
        talk.wait_for("up")
        domain = xm.the_domain()
        second = xm.create(config)
        assert second.status == 2
        assert "running already" in second.sentence()
        ended = xm.run("destroy", "waits")
        assert (ended.status, ended.stderr) == (0, "")
        assert domain.wait()
    again = xm.run("destroy", "waits")
    assert again.status == 1
    assert again.sentence() == 'there is no domain of the name "waits"'


@pytest.mark.parametrize("name", ["never-was", "../etc", ""])
def test_destroy_of_what_is_not_there(xm: "Xm", name: str) -> None:
    ended = xm.run("destroy", name)
    assert ended.status in (1, 2)
    assert ended.sentence()
