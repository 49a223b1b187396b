"""features.h."""

from xenion.abi import features


def test_numbers() -> None:
    assert features.XENFEAT_writable_page_tables == 0
    assert features.XENFEAT_supervisor_mode_kernel == 3
    assert features.XENFEAT_mmu_pt_update_preserve_ad == 5
    assert features.XENFEAT_dom0 == 11
    assert features.XENFEAT_memory_op_vnode_supported == 13


def test_every_feature_has_its_own_bit_in_the_submaps() -> None:
    bits = [
        value
        for name, value in vars(features).items()
        if name.startswith("XENFEAT_") and "SUBMAPS" not in name
    ]
    assert len(set(bits)) == len(bits) == 17
    assert max(bits) < 32 * features.XENFEAT_NR_SUBMAPS
