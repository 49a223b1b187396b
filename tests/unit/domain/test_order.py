"""What a domain process is told at its start."""

import os
from pathlib import Path

import pytest

from xenion.config.domain import Action, DomainConfig
from xenion.domain.devices import DeviceOrder
from xenion.domain.order import Descriptors, Order, in_memory


@pytest.mark.parametrize("arriving", [False, True])
def test_an_order_survives_the_way_to_the_process(arriving: bool) -> None:
    config = DomainConfig(name="guest", kernel=Path("/kernel"), on_crash=Action.PRESERVE, memory_mib=77)
    fds = Descriptors(3, 4, 5, 6, 7, 8, 9, -1, 10, 11, 12)
    disk = DeviceOrder("vbd", 51712, {"type": "file"}, {"vdev": "xvda"}, (13, 14))
    order = Order(config, 12, "11111111-2222-3333-4444-555555555555", True, fds, (disk,), arriving)
    with os.fdopen(in_memory(order.to_json()), "rb") as file:
        assert Order.read(file) == order


def test_only_what_is_open_is_passed_on() -> None:
    assert Descriptors(3, 4, 5, 6, 7, 8, 9, -1, 10, 11, 12).numbers() == (3, 4, 5, 6, 7, 8, 9, 10, 11, 12)


def test_what_is_saved_is_passed_on() -> None:
    assert Descriptors(3, 4, 5, 6, 7, 8, 9, -1, 10, 11, 12, 13).numbers()[-1] == 13


def test_devices_bring_theirs() -> None:
    fds = Descriptors(3, 4, 5, 6, 7, 8, 9, -1, 10, 11, 12)
    config = DomainConfig(name="guest", kernel=Path("/kernel"))
    devices = DeviceOrder("vbd", 51712, {}, {}, (13, 14)), DeviceOrder("vif", 0, {}, {}, (15,))
    order = Order(config, 12, "11111111-2222-3333-4444-555555555555", False, fds, devices)
    assert order.numbers() == (*fds.numbers(), 13, 14, 15)
