"""Layers that no checkpoint needs apart become one: what is above goes into what is below it.

What is above another one names it in its header, so that there is work left when that has gone into the one below. The
note tells what: a merge that was broken off anywhere is finished by the next one, and until then all reads as before.
"""

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from xenion.api.errors import ApiError
from xenion.xend.disks import qemu_img
from xenion.xend.disks.layers import Layers, Note, Stamp


async def merge(layers: Layers) -> AsyncIterator[Path]:
    """Of a disk that nobody has open; each file before it goes. ApiError."""
    note = layers.settled()
    if note is None:
        layers.sweep()
        return
    note = await _finished(layers, note)
    layers.sweep()
    while pair := _apart_for_nothing(layers, note):
        below, above = pair
        yield layers.path(above)
        layers.check(note, ("", *layers.needed(note)))
        note = await _finished(layers, await _put_into(layers, note, below, above))


def _apart_for_nothing(layers: Layers, note: Note) -> tuple[str, str] | None:
    """A file that no point needs, and the only one above it; the lowest."""
    points, taken = set(note.points.values()), Counter(layers.needed(note).values())
    for above, below in reversed(list(layers.branch(note.top))):
        if below not in points and taken[below] == 1:
            return below, above
    return None


async def _put_into(layers: Layers, note: Note, below: str, above: str) -> Note:
    """`below` is not as it was left from now on, and then is what `above` was."""
    before = note.frozen.get(below)
    note = msgspec.structs.replace(note, frozen=_without(note.frozen, below))
    layers.write(note)
    try:
        path = str(layers.path(above))
        await qemu_img.run(layers.disk, "commit", "-q", "-d", "-f", "qcow2", path, patient=True)
    except ApiError:
        with layers.refusals():
            if before is not None and Stamp.of(layers.path(below)) == before:
                layers.write(msgspec.structs.replace(note, frozen={**note.frozen, below: before}))
        raise
    frozen = _without(note.frozen, above)
    if above in note.frozen:
        with layers.refusals():
            frozen[below] = Stamp.of(layers.path(below))
    points = {point: below if name == above else name for point, name in note.points.items()}
    top, fresh = (below, None) if note.top == above else (note.top, note.fresh)
    note = msgspec.structs.replace(
        note, top=top, fresh=fresh, frozen=frozen, points=points, merged={above: below}
    )
    layers.write(note)
    return note


async def _finished(layers: Layers, note: Note) -> Note:
    """What has gone into another one is above that no more, and below none."""
    for above, below in note.merged.items():
        for name, under in layers.needed(note).items():
            if under == above:
                note = await _rebased(layers, note, name, below)
        with layers.refusals():
            layers.path(above).unlink(missing_ok=True)
    if note.merged:
        note = msgspec.structs.replace(note, merged={})
        layers.write(note)
    return note


async def _rebased(layers: Layers, note: Note, name: str, below: str) -> Note:
    """It reads as before, so it is as it was left, whatever its time says."""
    path = layers.path(name)
    with layers.refusals():
        fresh = note.top == name and Stamp.of(path) == note.fresh
    note = msgspec.structs.replace(note, frozen=_without(note.frozen, name))
    layers.write(note)
    backing = ("-F", layers.format(below).value, "-b", below or layers.base)
    await qemu_img.run(layers.disk, "rebase", "-q", "-u", "-f", "qcow2", *backing, str(path))
    with layers.refusals():
        stamp = Stamp.of(path)
    if name == note.top:
        return msgspec.structs.replace(note, fresh=stamp if fresh else note.fresh)
    return msgspec.structs.replace(note, frozen={**note.frozen, name: stamp})


def _without(frozen: dict[str, Stamp], name: str) -> dict[str, Stamp]:
    return {known: stamp for known, stamp in frozen.items() if known != name}
