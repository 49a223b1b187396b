"""CONTROL, as xenstore-control sends it."""

import pytest

from xenion.dom0.xenstore.commands import control
from xenion.dom0.xenstore.connection import Connection
from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.store import Store

DOM0 = Connection(0)


def said(store: Store, *words: str) -> str:
    payload = "".join(word + "\0" for word in words).encode("latin-1")
    answer = control(store, DOM0, 0, payload)
    assert answer.endswith(b"\0")
    return answer[:-1].decode()


def test_help_names_every_command() -> None:
    names = [line.split()[0] for line in said(Store(), "help").splitlines()]
    assert names == ["check", "print", "quota", "help"]


def test_check(capsys: pytest.CaptureFixture[str]) -> None:
    store = Store()
    store.write(DOM0, "/a/b", b"")
    assert said(store, "check") == "OK"
    del store.tree._nodes["/a/b"]
    assert "have 4 children" in said(store, "check")
    assert "have 4 children" in capsys.readouterr().err


def test_print_shows_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(Store(), "print", "hello\n\x1b[31m") == "OK"
    assert capsys.readouterr().err == "xenstored: control: hello??[31m\n"


def test_quota() -> None:
    store = Store()
    store.introduce(5, "five")
    assert "nodes             :     1000" in said(store, "quota")
    assert said(store, "quota", "set", "nodes", "7") == "OK"
    assert store.quota.nodes == 7
    store.write(store.domains[5].process, "/local/domain/5/x", b"")
    assert "nodes             :        0 (max 1000)" in said(store, "quota", "5")


@pytest.mark.parametrize(
    "words",
    [(), ("dance",), ("check", "x"), ("quota", "6"), ("quota", "set", "nodes"), ("quota", "set", "nodes", "0"),
     ("quota", "set", "lunch", "1"), ("print",)],
)  # fmt: skip
def test_what_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(StoreError):
        said(Store(), *words)
