"""io/netif.h as gcc lays it out."""

from collections.abc import Callable
from ctypes import sizeof

import pytest

from xenion.abi.io import netif
from xenion.abi.io.ring import ring_size

# Each structure's fields with their offsets, and its size: gcc's numbers for the headers of Xen 4.17.
LAYOUTS: dict[type, str] = {
    netif.NetifTxRequest: "gref 0, offset 4, flags 6, id 8, size 10; 12",
    netif.NetifExtraInfoGso: "size 0, type 2, pad 3, features 4; 6",
    netif.NetifExtraInfoMcast: "addr 0; 6",
    netif.NetifExtraInfoHash: "type 0, algorithm 1, value 2; 6",
    netif.NetifExtraInfoXdp: "headroom 0, pad 2; 4",
    netif.NetifExtraInfoU: "gso 0, mcast 0, hash 0, xdp 0, pad 0; 6",
    netif.NetifExtraInfo: "type 0, flags 1, u 2; 8",
    netif.NetifTxResponse: "id 0, status 2; 4",
    netif.NetifRxRequest: "id 0, pad 2, gref 4; 8",
    netif.NetifRxResponse: "id 0, offset 2, flags 4, status 6; 8",
}


@pytest.mark.parametrize("structure", LAYOUTS, ids=lambda structure: structure.__name__)
def test_layout(structure: type, describe: Callable[[type], str]) -> None:
    assert describe(structure) == LAYOUTS[structure]


def test_a_page_holds_a_ring_of_256_slots_either_way() -> None:
    assert ring_size(4096, sizeof(netif.NetifTxRequest)) == 256
    assert ring_size(4096, sizeof(netif.NetifRxRequest)) == 256


def test_extra_info_fits_every_slot_that_it_may_take() -> None:
    assert sizeof(netif.NetifExtraInfo) <= sizeof(netif.NetifTxRequest)
    assert sizeof(netif.NetifExtraInfo) <= sizeof(netif.NetifRxResponse)
