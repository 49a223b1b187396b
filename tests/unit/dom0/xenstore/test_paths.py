"""Node names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.paths import absolute, ancestors, child_of, domain_path, leaf_of, parent_of

HOME = domain_path(5)
names = st.lists(st.text("abzAZ09-_@", min_size=1, max_size=5), min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("given_path", "full"),
    [
        ("/", "/"),
        ("/vm/0-1_2@3", "/vm/0-1_2@3"),
        ("data", "/local/domain/5/data"),
        ("device/vif/0", "/local/domain/5/device/vif/0"),
        ("/" + "a" * 3071, "/" + "a" * 3071),
        ("a" * 2048, "/local/domain/5/" + "a" * 2048),
    ],
)
def test_good_paths(given_path: str, full: str) -> None:
    assert absolute(given_path, HOME) == full


BAD = [
    "",
    "//",
    "/a/",
    "a/",
    "/a//b",
    "a//b",
    "@x",
    "/a b",
    "/a.b",
    "/a\n",
    "a\n",
    "/ä",
    "/a\0",
    "../x",
    "/\xff",
]


@pytest.mark.parametrize("path", [*BAD, "/" + "a" * 3072, "a" * 2049])
def test_bad_paths(path: str) -> None:
    with pytest.raises(StoreError) as caught:
        absolute(path, HOME)
    assert caught.value.name == "EINVAL"


@given(st.text(max_size=40))
def test_any_text_is_a_path_or_einval(text: str) -> None:
    try:
        full = absolute(text, HOME)
    except StoreError:
        return
    assert full.startswith("/")
    assert "//" not in full
    assert full.isascii()


@given(names)
def test_parent_leaf_and_child_agree(parts: list[str]) -> None:
    path = "/" + "/".join(parts)
    assert child_of(parent_of(path), leaf_of(path)) == path
    assert list(ancestors(path)) == ["/" + "/".join(parts[:n]) for n in range(len(parts) - 1, -1, -1)]


def test_nothing_is_above_the_root() -> None:
    assert list(ancestors("/")) == []
    assert parent_of("/") == "/"
    assert leaf_of("/") == ""
