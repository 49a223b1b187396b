"""xg_core.h as gcc lays it out."""

from collections.abc import Callable

import pytest

from xenion.abi import dumpcore

LAYOUTS: dict[type, str] = {
    dumpcore.XenDumpcoreElfnoteHeaderDesc: (
        "xch_magic 0, xch_nr_vcpus 8, xch_nr_pages 16, xch_page_size 24; 32"
    ),
    dumpcore.XenDumpcoreElfnoteXenVersionDesc: (
        "major_version 0, minor_version 8, extra_version 16, compile_info 32, capabilities 176, "
        "changeset 1200, platform_parameters 1264, pagesize 1272; 1280"
    ),
    dumpcore.XenDumpcoreElfnoteFormatVersionDesc: "version 0; 8",
    dumpcore.XenDumpcoreP2m: "pfn 0, gmfn 8; 16",
}


@pytest.mark.parametrize("structure", LAYOUTS, ids=lambda structure: structure.__name__)
def test_layout(structure: type, describe: Callable[[type], str]) -> None:
    assert describe(structure) == LAYOUTS[structure]


def test_numbers() -> None:
    assert dumpcore.XEN_DUMPCORE_FORMAT_VERSION_CURRENT == 1
    assert dumpcore.XC_CORE_INVALID_PFN == 0xFFFFFFFFFFFFFFFF
