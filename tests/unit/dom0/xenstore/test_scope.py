"""Where a domain's process may go."""

import pytest

from xenion.dom0.xenstore.scope import Scope, whose

UUID = "0a1b"
BACKENDS = "/local/domain/0/backend"


@pytest.mark.parametrize(
    "path",
    [
        "/local/domain/5",
        "/local/domain/5/device/vbd",
        f"/vm/{UUID}",
        f"/vm/{UUID}/name",
        f"{BACKENDS}/vbd/5",
        f"{BACKENDS}/vbd/5/51712/state",
    ],
)
def test_its_own(path: str) -> None:
    scope = Scope(5, UUID)
    assert scope.may_write(path)
    assert scope.may_read(path)
    assert scope.may_make(path)
    assert whose(path) in scope.keys


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/local",
        "/local/domain",
        "/local/domain/50",
        "/local/domain/55/device",
        "/local/domain/0",
        "/local/domain/0/name",
        f"/vm/{UUID}0",
        "/vm",
        f"{BACKENDS}/vbd/50",
        f"{BACKENDS}/vbd/6/5",
        f"{BACKENDS}5/vbd/5",
        "/local/domain/6/backend/vbd/5",
        "/tool",
    ],
)
def test_not_its_own(path: str) -> None:
    scope = Scope(5, UUID)
    assert not scope.may_write(path)
    assert not scope.may_read(path)
    assert not scope.may_make(path)
    assert whose(path) not in scope.keys


def test_what_it_may_only_make_or_read() -> None:
    scope = Scope(5, UUID)
    for path in (BACKENDS, f"{BACKENDS}/vbd"):
        assert scope.may_make(path)
        assert not scope.may_read(path)
        assert not scope.may_write(path)
    assert scope.may_read("/tool/xenstored")
    assert not scope.may_write("/tool/xenstored")
    assert not scope.may_read("/tool/xenstored2")
