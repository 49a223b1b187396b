"""Targets as people see them, and as records keep them."""

import pytest

from xenion.xend.migration.target import Target


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        (Target("h", 8002), "h:8002"),
        (Target("192.0.2.7", 1, ssl=True), "192.0.2.7:1"),
        (Target("me@there", 1, ssh=True), "me@there:1"),
        (Target("::1", 8002), "[::1]:8002"),
        (Target("fe80::1%eth0", 5), "[fe80::1%eth0]:5"),
    ],
)
def test_targets(target: Target, shown: str) -> None:
    assert str(target) == shown
    assert Target.of(target.to_mapping()) == target
    assert Target.of({**target.to_mapping(), "id": "a", "disks": []}) == target


def test_one_of_a_record_that_knows_no_ssh() -> None:
    assert Target.of({"host": "h", "port": 1, "ssl": True}) == Target("h", 1, ssl=True)
