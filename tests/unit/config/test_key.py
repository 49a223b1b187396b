from xenion.config.key import Key, Status
from xenion.config.values import Kind


def test_a_note_names_its_key_and_says_why() -> None:
    assert Key("pool", Kind.TEXT, Status.ACCEPTED, "A pool.").note == "pool: not supported yet"
    disk = Key("disk", Kind.ITEMS, Status.ACCEPTED, "Disks.", reason="the guest gets no virtual disk")
    assert disk.note == "disk: not supported yet: the guest gets no virtual disk"
