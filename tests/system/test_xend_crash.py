"""kill -9 of xend under load: no domain lost, none orphaned, no byte of a console lost, no stale file left."""

import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.system.load import Reader, RelayReader, Worker, persistently, running
from xenion.api.client import Client
from xenion.api.folders import Folders
from xenion.config.domain import DomainConfig

if TYPE_CHECKING:
    from tests.system.conftest import GuestMaker, Kernel
    from tests.system.xm import Xm

COUNTING = "dmesg -n 1; stty -onlcr; i=0; while :; do echo line $i; i=$((i+1)); usleep 5000; done"
WORKERS = 2


def kill(client: Client) -> None:
    """Whenever it happens to be, but only a xend that had come up."""
    pid = persistently(lambda: client.call("info"))["xend_pid"]
    time.sleep(random.random() * 0.25)
    os.kill(pid, signal.SIGKILL)
    client.close()


def stale(where: Folders) -> list[str]:
    """Files that no domain needs any more: beside logs, which are kept, and xend's own."""
    return [
        str(path)
        for folder in (where.domains, where.managed, where.dumps, where.state / "domains")
        for path in folder.rglob("*")
        if path.name.startswith(".") or path.suffix in (".part", ".new", ".sock") or path.name == "journal"
    ]


@pytest.mark.parametrize("kills", [12, pytest.param(200, marks=pytest.mark.slow)])
def test_kills_under_load(
    xm: "Xm", guest: "GuestMaker", tiny_kernel: "Kernel", monkeypatch: pytest.MonkeyPatch, kills: int
) -> None:
    assert xm.run("create", "-q", guest(COUNTING, name="steady", memory=96)).status == 0
    where = Folders(xm.run_folder / "xenion", xm.state / "xenion")
    config = DomainConfig(name="any", kernel=tiny_kernel("wait", "hello\n"), memory_mib=16).to_mapping()
    client = Client(where)
    steady = client.call("domain", domain="steady")
    stop = threading.Event()
    readers = [Reader(Path(steady["console"]), stop), RelayReader(where, steady["uuid"], stop)]
    workers = [Worker(where, config, f"load{number}", stop) for number in range(WORKERS)]
    for key in ("XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(key, xm.environment[key])  # for the xend that the clients start
    with running(*readers, *workers):
        try:
            for _ in range(kills):
                kill(client)
        finally:
            stop.set()
    assert [wrong for reader in readers for wrong in reader.wrong] == []
    assert [wrong for worker in workers for wrong in worker.wrong] == []
    assert all(reader.lines > kills for reader in readers)
    assert all(worker.rounds for worker in workers)

    listed = xm.json("list")
    assert [domain["name"] for domain in listed] == ["Domain-0", "steady"]
    assert [process.pid for process in xm.domains()] == [steady["pid"]]
    assert [path.name for path in where.domains.iterdir()] == [steady["uuid"]]
    assert xm.run("destroy", "steady").status == 0
    client.close()
    assert stale(where) == []
