"""A file that a domain is saved into; pipes are in test_piped.py."""

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from xenion.domain.saved.format import HOST, Reader
from xenion.domain.saved.state import HostDisk, HostState, decode
from xenion.xend.part import Part
from xenion.xend.sink import IntoFile

HOST_STATE = HostState(lasting=True, disks=[HostDisk("xvda", 1, 2)])


def part(path: Path) -> Part:
    live: Any = SimpleNamespace(record=SimpleNamespace(parts=[]), save=lambda: None)
    return Part(cast("Any", live), path)


def test_into_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    unfinished = part(path)

    async def work() -> None:
        sink = IntoFile(unfinished)
        async with sink.from_process() as fd:
            os.write(fd, b"")
        await sink.settle(HOST_STATE)
        assert not path.exists()
        await sink.finish(HOST_STATE)
        assert sink.size == path.stat().st_size
        await sink.append(HOST_STATE)
        assert sink.size == path.stat().st_size
        with path.open("rb") as file:
            reads = Reader(file.fileno())
            assert [decode(reads.section(HOST), HostState) for _ in range(2)] == [HOST_STATE] * 2
            assert file.read() == b""
        sink.withdraw()
        assert not path.exists()

    asyncio.run(work())
    unfinished.close()
