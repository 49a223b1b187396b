"""Xenbus: how front and back ends of a device find each other and agree (public/io/xenbus.h)."""
