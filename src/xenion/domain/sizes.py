"""How many virtual CPUs and how much memory the guest of this boot has: changed while it runs, through xenstore."""

from collections.abc import Callable

from xenion.config.domain import DomainConfig
from xenion.dom0.loop import Loop, Timer
from xenion.domain.store import DomainStore
from xenion.vmm.domain import Domain

PAGES_PER_MIB = 256
LOOK_SECONDS = 0.1
LOOKS = 300
"""After so many during which the guest's memory has not changed, nobody expects any more of it."""


class SizeError(Exception):
    """It cannot be so large or small; one sentence says what can be."""


class Sizes:
    """For Dom0's thread. `told` is called when one has changed."""

    def __init__(
        self, config: DomainConfig, domain: Domain, loop: Loop, store: DomainStore, told: Callable[[], None]
    ) -> None:
        self._domain = domain
        self._loop = loop
        self._store = store
        self._told = told
        self._timer: Timer | None = None
        self._looks_left = 0
        self._target_mib = self._seen = self._known = config.memory_mib
        self._most_mib = self.maxmem_mib = config.most_memory_mib
        self.vcpus = config.vcpus

    @property
    def target_mib(self) -> int:
        """What the guest was asked to have."""
        return self._target_mib

    def restore(self, target_mib: int, maxmem_mib: int, vcpus: int) -> None:
        """As they were when the guest was saved."""
        self._target_mib, self.maxmem_mib, self.vcpus = target_mib, maxmem_mib, vcpus
        self._seen = self._known = self.memory_mib

    @property
    def memory_mib(self) -> int:
        """What the guest has now."""
        return self._domain.pages // PAGES_PER_MIB

    def set_vcpus(self, count: int) -> None:
        """Asks the guest to have so many online. SizeError."""
        most = len(self._domain.vcpus)
        if not 1 <= count <= most:
            raise SizeError(
                f"the domain can have from 1 to {most} virtual CPUs online, not {count}: maxvcpus in its "
                "configuration is the limit, from its next boot on"
            )
        for number in range(most):
            state = "online" if number < count else "offline"
            self._store.write_node(f"cpu/{number}/availability", state)
        self.vcpus = count
        self._told()

    def set_memory(self, mib: int) -> None:
        """Asks the guest's balloon driver for it. SizeError."""
        if not 1 <= mib <= self.maxmem_mib:
            raise SizeError(
                f"the domain can have from 1 to {self.maxmem_mib} MiB of memory, not {mib}: xm mem-max changes the "
                "limit, and maxmem in its configuration that of its next boot"
            )
        self._target_mib = mib
        self._store.write_node("memory/target", str(mib * 1024))
        self._look_out()

    def set_most(self, mib: int) -> None:
        """What the guest may come to have. SizeError."""
        if not self._target_mib <= mib <= self._most_mib:
            raise SizeError(
                f"the limit can be from {self._target_mib} MiB, what the domain has or was asked to have, to "
                f"{self._most_mib} MiB, what it was built for, not {mib}: maxmem in its configuration is that of its "
                "next boot"
            )
        self.maxmem_mib = mib
        self._domain.max_pages = mib * PAGES_PER_MIB
        self._store.write_node("memory/static-max", str(mib * 1024))
        self._told()

    def stop(self) -> None:
        """The guest has stopped."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    # --- the guest's answer: nothing tells of it but how many pages it has

    def _look_out(self) -> None:
        self._looks_left = LOOKS
        if self._timer is None:
            self._timer = self._loop.later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """Tells of an amount that stays as it is."""
        now = self.memory_mib
        if now == self._seen and now != self._known:
            self._known = now
            self._told()
        self._looks_left = LOOKS if now != self._seen else self._looks_left - 1
        self._seen = now
        done = now == self._known == self._target_mib or not self._looks_left
        self._timer = None if done else self._loop.later(LOOK_SECONDS, self._look)
