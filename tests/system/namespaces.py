"""Network namespaces for tests that root can run: hosts of their own, and cables between them."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


class Namespaces:
    """`names` are those for `ip netns`, one for each word."""

    def __init__(self, *words: str) -> None:
        self.names = [f"xenion-{os.getpid()}-{word}" for word in words]

    def add(self) -> str:
        """What keeps this host from having any."""
        for name in self.names:
            done = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
            if done.returncode:
                return done.stderr.strip()
        return ""

    def make(self) -> None:
        """What is in them, and between them."""
        for name in self.names:
            run("ip", "-n", name, "link", "set", "lo", "up")

    def remove(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def inside(name: str) -> tuple[str, ...]:
    """What runs a command there."""
    return "ip", "netns", "exec", name


def add_link(name: str, link: str, *kind: str, address: str = "", bridge: str = "") -> None:
    """Up, with an address or in a bridge; of this `kind` if it is not there yet."""
    if kind:
        run("ip", "-n", name, "link", "add", link, "type", *kind)
    if address:
        run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", link)
    if bridge:
        run("ip", "-n", name, "link", "set", link, "master", bridge)
    run("ip", "-n", name, "link", "set", link, "up")


def add_cable(one: str, link: str, other: str, its_link: str) -> None:
    run("ip", "link", "add", link, "netns", one, "type", "veth", "peer", its_link, "netns", other)


N = TypeVar("N", bound=Namespaces)


def usable(made: N) -> Iterator[N]:
    """For a fixture."""
    if os.geteuid() != 0 or not Path("/dev/net/tun").exists():
        pytest.skip("networks of the host's need root and /dev/net/tun")
    if shutil.which("ip") is None:
        pytest.skip("there is no ip: apt-get install iproute2")
    try:
        if why_not := made.add():
            pytest.skip(f"no network namespace can be made here: {why_not}")
        made.make()
        yield made
    finally:
        made.remove()
