"""The support page of the documentation, from the hypercall table: `python -m xenion.vmm.hypercalls.support`."""

from collections.abc import Iterator

from xenion.vmm.hypercalls import TABLE
from xenion.vmm.hypercalls.table import Entry, Status

HEADER = """\
# Hypercalls

What a PV domain gets for each hypercall of Xen's public interface. Generated from the hypercall table by
`python -m xenion.vmm.hypercalls.support`; do not edit.

*full*: as Xen answers an unprivileged PV domain. *partial*: with the restriction named. *absent*: `-ENOSYS`.
*core*: answered by the compiled core, on the hot path; the rest is Python.

| number | hypercall | support | where | note |
|---|---|---|---|---|
"""


def _where(entry: Entry) -> str:
    if entry.status is Status.ABSENT:
        return ""
    return "core" if entry.in_core else "Python"


def rows() -> Iterator[str]:
    for entry in TABLE:
        yield f"| {entry.number.value} | {entry.number.name} | {entry.status.value} | {_where(entry)} | {entry.note} |"


def page() -> str:
    return HEADER + "\n".join(rows()) + "\n"


if __name__ == "__main__":
    print(page(), end="")
