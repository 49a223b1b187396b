"""A saved domain on its way out of its file: what it is first, its memory when a new domain is there to take it."""

from xenion.domain.saved.format import DONE, HEAD, NUMBER, PAGES, STATE, Reader, SavedFileError
from xenion.domain.saved.pages import unpack
from xenion.domain.saved.state import Head, MachineState, decode
from xenion.vmm.domain import Domain
from xenion.vmm.saved import SavedStateError, memory_runs, prepare, resume


class SavedDomain:
    """Read from the start of `fd`, in one pass. SavedFileError."""

    def __init__(self, fd: int) -> None:
        self._reader = Reader(fd)
        self._reader.begin()
        self.head = decode(self._reader.section(HEAD), Head)
        self.state = decode(self._reader.section(STATE), MachineState)

    def fill(self, domain: Domain) -> None:
        """Makes a new domain of no pages what the saved one was, so that it goes on. SavedFileError."""
        state = self.state.domain
        try:
            prepare(domain, state)
            self._load_pages(domain)
            resume(domain, state)
        except SavedStateError as error:
            raise SavedFileError(str(error)) from error

    def _load_pages(self, domain: Domain) -> None:
        allowed, count = memory_runs(domain, self.state.domain), 0
        while (section := self._reader.next(PAGES, DONE)).kind == PAGES:
            count += unpack(section.data, domain.memory, allowed)
        if section.data != NUMBER.pack(count):
            raise SavedFileError("it is damaged: pages are missing")
