"""A domain goes back to a checkpoint: its disks do before they are opened, and what was written since is lost."""

from contextlib import suppress
from dataclasses import dataclass, field

from xenion.api.errors import ApiError
from xenion.xend.devices import Devices
from xenion.xend.disks.errors import cannot
from xenion.xend.disks.layers import Layers, Note, layers_of
from xenion.xend.record import Record


@dataclass(slots=True)
class GoingBack:
    """To the checkpoint of the id `point`, if they are not still there only where that is `allowed`. Everything raises
    ApiError."""

    devices: Devices
    point: str
    allowed: bool = True
    _gone: list[tuple[Layers, Note]] = field(default_factory=list)

    async def go(self, made: Record) -> None:
        """Of a domain that is about to start."""
        with self.devices.disk_place(made) as place:
            for disk in made.config.disks:
                layers = layers_of(disk, place.state)
                if layers is None or not disk.writable or layers.is_at(self.point):
                    continue
                if not self.allowed:
                    raise cannot(disk, "it was written to after the checkpoint, a moment ago")
                self._gone.append((layers, await layers.go_back(self.point, place)))

    def undo(self) -> None:
        """It did not start: its disks are as they were."""
        while self._gone:
            layers, before = self._gone.pop()
            layers.undo(before)

    def finish(self) -> None:
        """It runs: nobody needs what there was."""
        for layers, _ in self._gone:
            with suppress(ApiError):  # the next sweep does it
                layers.sweep()
