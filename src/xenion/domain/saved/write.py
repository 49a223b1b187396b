"""A domain on its way into a file, while it is held and none of its back ends has anything of its memory."""

from xenion.domain.saved.format import DONE, HEAD, NUMBER, PAGES, STATE, Progress, SaveError, Writer
from xenion.domain.saved.pages import pieces
from xenion.domain.saved.state import Head, MachineState, encode
from xenion.vmm.domain import Domain
from xenion.vmm.saved import memory_runs, shown_pages


class SaveCancelledError(SaveError):
    """`progress` asked to stop."""

    def __init__(self) -> None:
        super().__init__("the save was cancelled")


def save_domain(domain: Domain, head: Head, state: MachineState, fd: int, progress: Progress) -> None:
    """All but the HOST section. SaveError."""
    writer = Writer(fd)
    writer.begin()
    writer.section(HEAD, encode(head))
    writer.section(STATE, encode(state))
    runs = memory_runs(domain, state.domain)
    most, done = sum(count for _, count in runs), 0
    for data, count in pieces(domain.memory, runs, shown_pages(domain)):
        writer.section(PAGES, data)
        done += count
        if not progress(done, most):
            raise SaveCancelledError
    writer.section(DONE, NUMBER.pack(done))
    writer.finish()
