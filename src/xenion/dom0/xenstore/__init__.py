"""Xenstore: the daemon and its store, and how a domain's process and its guest's ring are joined to it."""
