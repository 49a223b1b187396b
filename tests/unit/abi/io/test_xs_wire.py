"""io/xs_wire.h as gcc lays it out."""

from collections.abc import Callable

import pytest

from xenion.abi.io import xs_wire

# Each structure's fields with their offsets, and its size: gcc's numbers for the headers of Xen 4.17.
LAYOUTS: dict[type, str] = {
    xs_wire.XsdSockmsg: "type 0, req_id 4, tx_id 8, len 12; 16",
    xs_wire.XenstoreDomainInterface: (
        "req 0, rsp 1024, req_cons 2048, req_prod 2052, rsp_cons 2056, rsp_prod 2060, server_features 2064, "
        "connection 2068, error 2072; 2076"
    ),
}


@pytest.mark.parametrize("structure", LAYOUTS, ids=lambda structure: structure.__name__)
def test_layout(structure: type, describe: Callable[[type], str]) -> None:
    assert describe(structure) == LAYOUTS[structure]


def test_message_types() -> None:
    kinds = xs_wire.XsdSockmsgType
    assert kinds["DEBUG"] is kinds(0)
    assert (kinds.WATCH_EVENT, kinds.ERROR, kinds.SET_TARGET, kinds.RESET_WATCHES) == (15, 16, 19, 21)
    assert max(kind for kind in kinds if kind is not kinds.INVALID) == xs_wire.XS_TYPE_COUNT - 1


def test_errors_and_limits() -> None:
    assert len(set(xs_wire.XSD_ERRORS)) == 16
    assert xs_wire.XSD_ERRORS[0].name == "EINVAL"  # what an unknown errno is reported as
    assert xs_wire.XENSTORE_PAYLOAD_MAX == 4096
    assert (xs_wire.XENSTORE_ABS_PATH_MAX, xs_wire.XENSTORE_REL_PATH_MAX) == (3072, 2048)
