"""version.h as gcc lays it out."""

from collections.abc import Callable

import pytest

from xenion.abi import version

# Each structure's fields with their offsets, and its size: gcc's numbers for the headers of Xen 4.17.
LAYOUTS: dict[type, str] = {
    version.XenCompileInfo: "compiler 0, compile_by 64, compile_domain 80, compile_date 112; 144",
    version.XenPlatformParameters: "virt_start 0; 8",
    version.XenFeatureInfo: "submap_idx 0, submap 4; 8",
    version.XenBuildId: "len 0; 4",
}


@pytest.mark.parametrize("structure", LAYOUTS, ids=lambda structure: structure.__name__)
def test_layout(structure: type, describe: Callable[[type], str]) -> None:
    assert describe(structure) == LAYOUTS[structure]


def test_numbers() -> None:
    assert (version.XENVER_version, version.XENVER_get_features, version.XENVER_build_id) == (0, 6, 10)
    assert (version.XEN_EXTRAVERSION_LEN, version.XEN_CAPABILITIES_INFO_LEN) == (16, 1024)
