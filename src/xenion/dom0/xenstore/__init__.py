"""Xenstore: the wire protocol, a store for one domain, and the ring that joins a guest to it."""
