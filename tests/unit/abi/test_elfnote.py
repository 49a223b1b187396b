"""elfnote.h."""

from xenion.abi import elfnote


def test_numbers() -> None:
    assert elfnote.XEN_ELFNOTE_ENTRY == 1
    assert elfnote.XEN_ELFNOTE_VIRT_BASE == 3
    assert elfnote.XEN_ELFNOTE_L1_MFN_VALID == 13
    assert (elfnote.XEN_ELFNOTE_INIT_P2M, elfnote.XEN_ELFNOTE_MOD_START_PFN) == (15, 16)
    assert elfnote.XEN_ELFNOTE_MAX == elfnote.XEN_ELFNOTE_PHYS32_ENTRY == 18


def test_types_are_distinct() -> None:
    types = [
        value
        for name, value in vars(elfnote).items()
        if name.startswith("XEN_ELFNOTE_") and name[-3:] != "MAX"
    ]
    assert len(set(types)) == len(types) == 25
