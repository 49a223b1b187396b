"""Requests about domains, as domain 0 and guests send them."""

import pytest

from xenion.abi.io.xs_wire import XsdSockmsgType as T
from xenion.dom0.xenstore.connection import Connection
from xenion.dom0.xenstore.perms import parse_perm
from xenion.dom0.xenstore.requests import handle
from xenion.dom0.xenstore.store import Store
from xenion.dom0.xenstore.wire import Message


class Talk:
    """A store with domains 5 and 6."""

    def __init__(self) -> None:
        self.store = Store()
        self.dom0 = Connection(0)
        self.guest = self.store.introduce(5, "five").guest
        self.other = self.store.introduce(6, "six").guest

    def says(self, kind: int, payload: bytes, who: Connection | None = None) -> bytes:
        client = who or self.dom0
        handle(self.store, client, Message(kind, 1, 0, payload))
        while (message := client.take()) is not None and message.type == T.WATCH_EVENT:
            pass
        assert message is not None
        return b"!" + message.payload[:-1] if message.type == T.ERROR else message.payload


@pytest.fixture
def talk() -> Talk:
    return Talk()


def test_introduce_is_for_domains_that_xend_has_introduced(talk: Talk) -> None:
    talk.says(T.WATCH, b"x\0t\0", talk.guest)
    assert talk.says(T.INTRODUCE, b"5\0001234\0007\0") == b"OK\0"
    assert talk.guest.watches == {}
    for payload in (
        b"7\0001234\0007\0",
        b"5\0001234\0",
        b"5\0001234\0000\0",
        b"x\0001\0001\0",
        b"70000\0001\0001\0",
    ):
        assert talk.says(T.INTRODUCE, payload) == b"!EINVAL"


def test_release(talk: Talk) -> None:
    talk.store.watch(talk.dom0, "@releaseDomain", b"t")
    talk.dom0.events()
    handle(talk.store, talk.dom0, Message(T.RELEASE, 1, 0, b"5\0"))
    assert [event.path for event in talk.dom0.events()] == ["@releaseDomain"]
    assert talk.says(T.IS_DOMAIN_INTRODUCED, b"5\0") == b"F\0"
    assert talk.says(T.RELEASE, b"5\0") == b"!ENOENT"
    assert talk.says(T.RELEASE, b"0\0") == b"!EINVAL"


def test_resume(talk: Talk) -> None:
    asked = [talk.says(T.RESUME, payload) for payload in (b"5\0", b"7\0", b"0\0", b"")]
    assert asked == [b"OK\0", b"!ENOENT", b"!EINVAL", b"!EINVAL"]


def test_a_target_lends_its_rights(talk: Talk) -> None:
    talk.store.write(talk.dom0, "/of6", b"secret")
    talk.store.set_perms(talk.dom0, "/of6", (parse_perm("n6"),))
    assert talk.says(T.READ, b"/of6\0", talk.guest) == b"!EACCES"
    assert talk.says(T.SET_TARGET, b"5\0006\0") == b"OK\0"
    assert talk.says(T.READ, b"/of6\0", talk.guest) == b"secret"
    assert talk.says(T.SET_PERMS, b"/of6\0r6\0", talk.guest) == b"OK\0"
    assert talk.says(T.SET_PERMS, b"/of6\0r5\0", talk.guest) == b"!EPERM"
    talk.store.release(6)
    talk.store.write(talk.dom0, "/of6", b"another")
    talk.store.set_perms(talk.dom0, "/of6", (parse_perm("n6"),))
    assert talk.says(T.READ, b"/of6\0", talk.guest) == b"!EACCES"
    assert talk.says(T.SET_TARGET, b"5\0007\0") == b"!ENOENT"
    assert talk.says(T.SET_TARGET, b"5\0") == b"!EINVAL"


def test_features(talk: Talk) -> None:
    assert talk.says(T.GET_FEATURE, b"") == b"15\0"
    assert talk.says(T.GET_FEATURE, b"", talk.guest) == b"15\0"
    assert talk.says(T.GET_FEATURE, b"6\0", talk.guest) == b"!EACCES"
    assert talk.says(T.SET_FEATURE, b"5\0003\0") == b"!EBUSY"
    assert talk.says(T.SET_FEATURE, b"7\00016\0") == b"!EINVAL"
    assert talk.says(T.SET_FEATURE, b"7\0003\0") == b"OK\0"
    assert talk.says(T.GET_FEATURE, b"7\0") == b"3\0"
    plain = talk.store.introduce(7, "seven").guest
    assert talk.says(T.GET_FEATURE, b"", plain) == b"3\0"
    assert talk.says(T.WATCH, b"x\0t\0001\0", plain) == b"!EINVAL"
    assert talk.says(T.WATCH, b"x\0t\0001\0", talk.guest) == b"OK\0"


def test_quotas(talk: Talk) -> None:
    names = talk.says(T.GET_QUOTA, b"")[:-1].split(b" ")
    assert {b"nodes", b"watches", b"transactions", b"node-size", b"node-permissions"} <= set(names)
    assert talk.says(T.GET_QUOTA, b"nodes\0") == talk.says(T.GET_QUOTA, b"5\0nodes\0") == b"1000\0"
    assert talk.says(T.SET_QUOTA, b"5\0watches\0001\0") == b"OK\0"
    assert talk.says(T.WATCH, b"x\0t\0", talk.guest) == b"OK\0"
    assert talk.says(T.WATCH, b"y\0t\0", talk.guest) == b"!E2BIG"
    assert talk.says(T.SET_QUOTA, b"5\0watches\0000\0") == b"OK\0"
    assert talk.says(T.GET_QUOTA, b"5\0watches\0") == b"0\0"
    assert talk.says(T.WATCH, b"y\0t\0", talk.guest) == b"OK\0"
    assert talk.says(T.SET_QUOTA, b"nodes\0007\0") == b"OK\0"
    assert talk.says(T.GET_QUOTA, b"5\0nodes\0") == b"1000\0"
    talk.store.introduce(7, "seven")
    assert talk.says(T.GET_QUOTA, b"7\0nodes\0") == b"7\0"
    for payload in (b"lunch\0", b"8\0nodes\0", b"a\0b\0c\0"):
        assert talk.says(T.GET_QUOTA, payload) in (b"!EINVAL", b"!ENOENT")
    assert talk.says(T.SET_QUOTA, b"nodes\0-1\0") == b"!EINVAL"


def test_depth_limits_a_watch(talk: Talk) -> None:
    for depth in (b"0", b"1", b"2"):
        assert talk.says(T.WATCH, b"/a\0" + depth + b"\0" + depth + b"\0") == b"OK\0"
    talk.dom0.events()
    for path in ("/a", "/a/b", "/a/b/c", "/a/b/c/d"):
        talk.store.write(talk.dom0, path, b"")
    told = [(event.path, event.token) for event in talk.dom0.events()]
    assert told == [
        ("/a", b"0"),
        ("/a", b"1"),
        ("/a", b"2"),
        ("/a/b", b"1"),
        ("/a/b", b"2"),
        ("/a/b/c", b"2"),
    ]


def test_special_watches_tell_which_domain(talk: Talk) -> None:
    for path, depth in (
        (b"@introduceDomain", b"1\0"),
        (b"@introduceDomain", b""),
        (b"@releaseDomain/7", b""),
    ):
        assert talk.says(T.WATCH, path + b"\0t" + depth[:1] + b"\0" + depth) == b"OK\0"
    talk.dom0.events()
    talk.store.introduce(7, "seven")
    talk.store.release(7)
    assert sorted(event.path for event in talk.dom0.events()) == [
        "@introduceDomain",
        "@introduceDomain/7",
        "@releaseDomain/7",
    ]


def test_any_domain_may_be_named(talk: Talk) -> None:
    talk.store.write(talk.dom0, "/public", b"x")
    talk.store.set_perms(talk.dom0, "/public", (parse_perm("n0"), parse_perm("r32757")))
    assert talk.says(T.READ, b"/public\0", talk.guest) == b"x"
    assert talk.says(T.WRITE, b"/public\0y", talk.guest) == b"!EACCES"
