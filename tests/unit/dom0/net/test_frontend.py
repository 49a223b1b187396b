"""A front end's nodes, understood. What is refused, with its sentences: test_backend."""

from hypothesis import given
from hypothesis import strategies as st

from xenion.abi.io.netif import XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6
from xenion.dom0.net.frontend import QueueNodes, features_of, queues_of
from xenion.dom0.xenbus.backend import FrontendError

LINUX = {
    "tx-ring-ref": "9", "rx-ring-ref": "768", "event-channel-tx": "14", "event-channel-rx": "15",
    "request-rx-copy": "1", "feature-rx-notify": "1", "feature-sg": "1", "feature-gso-tcpv4": "1",
    "feature-gso-tcpv6": "1", "feature-ipv6-csum-offload": "1", "state": "4", "mac": "00:16:3e:00:00:01",
}  # fmt: skip


def test_what_linux_writes() -> None:
    features = features_of(LINUX)
    assert features.sg
    assert features.gso == {XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6}
    assert (features.csum_v4, features.csum_v6) == (True, True)
    assert features.rx_notify
    assert not features.multicast_control
    assert queues_of(LINUX, 1) == [QueueNodes(9, 768, 14, 15)]


def test_what_nothing_means() -> None:
    features = features_of({"request-rx-copy": "1"})
    assert (features.sg, features.gso, features.rx_notify) == (False, frozenset(), False)
    assert (features.csum_v4, features.csum_v6) == (True, False)


def test_queues() -> None:
    nodes = {"multi-queue-num-queues": "2"}
    for index in range(2):
        nodes |= {f"queue-{index}/tx-ring-ref": str(index), f"queue-{index}/rx-ring-ref": str(10 + index)}
        nodes[f"queue-{index}/event-channel"] = str(20 + index)
    assert queues_of(nodes, 4) == [QueueNodes(0, 10, 20, 20), QueueNodes(1, 11, 21, 21)]


@given(st.dictionaries(st.sampled_from(sorted(LINUX)), st.text(max_size=12)))
def test_any_values(changed: dict[str, str]) -> None:
    try:
        features_of({**LINUX, **changed})
        for queue in queues_of({**LINUX, **changed}, 8):
            assert all(
                0 <= value < 1 << 32 for value in (queue.tx_ref, queue.rx_ref, queue.tx_port, queue.rx_port)
            )
    except FrontendError:
        pass
