"""A store within the domain's process serves it as xenstored would."""

from uuid import uuid4

from tests.descriptors import descriptors
from xenion.dom0.loop import Loop
from xenion.domain.own_store import own_store
from xenion.domain.store import DomainStore


def test_it_serves_this_domain_and_goes_with_it() -> None:
    before = descriptors()
    loop, uuid, values = Loop(), uuid4(), list[bytes]()
    store = DomainStore(loop, 3, uuid, lambda text: None)
    server = own_store(loop, store, 3, str(uuid))
    store.write_node("control/shutdown", "reboot")
    store.read_node("control/shutdown", values.append)
    store.rename("other")
    store.client.settle(lambda: values.append(b"settled"))
    while values[-1:] != [b"settled"]:
        loop.turn(None)
    assert values == [b"reboot", b"settled"]
    assert server.store.tree.get(f"/vm/{uuid}/name").value == b"other"  # type: ignore[union-attr]
    assert set(server.store.introduced) == {3}
    store.close()
    server.close()
    loop.close()
    assert set(descriptors()) <= set(before)
