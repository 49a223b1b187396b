"""The default limits are xenstored's."""

from xenion.dom0.xenstore.quota import Quota


def test_defaults() -> None:
    quota = Quota()
    assert (quota.nodes, quota.node_size, quota.watches, quota.transactions) == (1000, 2048, 128, 10)
    assert (quota.transaction_nodes, quota.node_permissions, quota.outstanding) == (1024, 5, 20)
