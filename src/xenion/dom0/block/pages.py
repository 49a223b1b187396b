"""The guest's pages that requests of one ring name, mapped for one request or, if it agreed, persistently.

A persistent grant stays mapped after its request, because the front end will use it again (feature-persistent). Their
number is bounded: the one that was not used for the longest time goes first, the front end notices when it looks.
"""

from xenion.dom0.guest import Guest, MappedGrant

EVICTED_SHARE = 20


class Page:
    """`last` is the number of the latest request that names it."""

    __slots__ = ("grant", "last", "view")

    def __init__(self, grant: MappedGrant) -> None:
        self.grant = grant
        self.view = grant.view
        self.last = 0


class Pages:
    """`known` are those that stay, by reference; look there first, and set `last` of what is there.

    `most`: how many stay at the same time, 0 if the front end did not agree to it. `retired` are those that nobody
    uses any more: `unmap_retired` once the guest was told of what they got.
    """

    def __init__(self, guest: Guest, most: int) -> None:
        self._guest = guest
        self._most = most
        self.known: dict[int, Page] = {}
        self.retired: list[Page] = []
        self._in_vain = 0

    @property
    def persistent(self) -> bool:
        return self._most > 0

    def add(self, ref: int, write: bool, oldest: int, once: list[Page]) -> Page:
        """Maps what is not known. If it will not stay it is added to `once`, to be unmapped after its request.

        `oldest`: the number of the oldest request that runs; pages of it and of later ones cannot go. GrantError.
        """
        page = Page(self._guest.map(ref, write=write or self.persistent))
        if len(self.known) < self._most or (self.persistent and self._evict(oldest)):
            self.known[ref] = page
        else:
            once.append(page)
        return page

    def _evict(self, oldest: int) -> bool:
        """Whether there is room now."""
        if oldest == self._in_vain:
            return False
        unused = [(page.last, ref) for ref, page in self.known.items() if page.last < oldest]
        unused.sort()
        for _, ref in unused[: self._most // EVICTED_SHARE + 1]:
            self.retired.append(self.known.pop(ref))
        if not unused:
            self._in_vain = oldest
        return bool(unused)

    def unmap_retired(self) -> None:
        for page in self.retired:
            page.grant.unmap()
        self.retired.clear()

    def unmap_all(self) -> None:
        """Nothing may run."""
        self.retired += self.known.values()
        self.known.clear()
        self.unmap_retired()
