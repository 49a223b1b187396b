"""Stands in for a domain process: holds the lock, writes a journal, answers on the control socket, runs no guest.

The words of its domain's `cmdline` say how it behaves: refuse, die, hang, mute, slow, no-dump; of devices: no-attach,
no-change, held (none is let go of), deaf (to what is attached), nonsense; of saves: no-save, slow-save (until it is
cancelled), dies, lost and stays (at the end); of disks that are switched meanwhile: no-standby, restless (nothing
rests), full (the save fails at rest), no-switch, dies-at-rest, dies-switched, stuck (it does not end once they are).
It needs nothing but the standard library, so that it is there at once. What it saves is in the file CONTENT of its
test's folder.

A test asks it over a control connection of its own for `add` (journal entries), `asked` (all requests so far), `open`
(how many descriptors it has), `behave` (other words from now on), `rest` (a slow save comes so far) and `exit`, and as
its guest for `write`, `read` (a sector of a disk) and `flush`.
"""

import json
import os
import select
import signal
import socket
import struct
import sys
import time
from typing import Any

TESTS = ("asked", "add", "open", "exit", "behave", "rest", "write", "read", "flush")
CONTENT = "content"
SECTOR = 512
NBD_REQUEST, NBD_REPLY = struct.Struct(">IHHQQI"), struct.Struct(">IIQ")
NBD_READ, NBD_WRITE, NBD_FLUSH = 0, 1, 3
NONSENSE: dict[str, Any] = {
    "devices": [
        7,
        {"kind": ["vbd"], "devid": 1},
        {"kind": "vbd", "devid": "51712", "state": 3},
        {"kind": "vbd", "devid": 51712, "state": ["Connected"], "rd_req": -1, "wr_sect": "many", "config": 3},
        {
            "kind": "vif",
            "devid": 0,
            "state": "Connected",
            "rx_bytes": 1e300,
            "tx_bytes": True,
            "peer": {"x": 1},
        },
    ]
}
Message = dict[str, Any]
Answer = dict[str, Any] | str | None


class Standin:
    def __init__(self, order: dict[str, Any]) -> None:
        self.order = order
        self.fds = order["fds"]
        self.mode = order["config"]["cmdline"].split()
        self.control = socket.socket(fileno=self.fds["control"])
        self.console = socket.socket(fileno=self.fds["console"])
        self.links: list[socket.socket] = []
        self.asked: list[Message] = []
        self.n = 0
        self.paused = False
        self.dump: tuple[socket.socket, int] | None = None
        self.saving: tuple[socket.socket, int] | None = None
        self.saved_for_good = False
        self.devices = {(device["kind"], device["devid"]): device for device in order.get("devices", ())}

    def add(self, kind: str, **fields: Any) -> None:
        self.n += 1
        entry = {"n": self.n, "time": time.time(), "kind": kind, **fields}
        os.write(self.fds["journal"], json.dumps(entry).encode() + b"\n")
        for link in self.links:
            self.send(link, {"journal": self.n})

    def send(self, link: socket.socket, message: Message) -> None:
        try:
            link.send(json.dumps(message).encode())
        except OSError:
            return  # its end is read in a moment

    def run(self) -> None:
        if "refuse" in self.mode:
            self.add("refused", text="it is no kernel")
            self.leave(2)
        if "die" in self.mode:
            os._exit(3)
        if "hang" in self.mode:
            signal.pause()
        self.control.listen(8)
        self.console.listen(8)
        if "slow" not in self.mode:
            self.boot()
        while True:
            for ready in select.select([self.control, *self.links], [], [])[0]:
                self.serve(ready)

    def boot(self) -> None:
        saved = self.fds.get("saved", -1)
        if saved >= 0 and not self.order["arriving"]:
            at, size = os.lseek(saved, 0, os.SEEK_CUR), os.fstat(saved).st_size
            self.asked.append({"do": "goes-on", "at": at, "size": size})
        self.add("running", boot=1, cpu_base=0.0, paused=self.order["paused"])

    def leave(self, status: int) -> None:
        self.add("leaving")
        os._exit(status)

    def serve(self, ready: socket.socket) -> None:
        if ready is self.control:
            link = self.control.accept()[0]
            self.links.append(link)
            self.send(link, {"hello": self.n})
            return
        try:
            packet, fds, _, _ = socket.recv_fds(ready, 1 << 16, 8)
        except OSError:
            packet, fds = b"", []
        if not packet:
            self.links.remove(ready)
            ready.close()
            return
        self.answer(ready, json.loads(packet), fds)
        for fd in fds:  # those that were kept have gone from it
            os.close(fd)

    def answer(self, link: socket.socket, request: Message, fds: list[int]) -> None:
        what, number = request["do"], request["id"]
        if what not in TESTS:
            files = [os.readlink(f"/proc/self/fd/{fd}") for fd in fds]  # noqa: PTH115  pathlib takes long to import
            self.asked.append({**request, "fds": files})
        if "deaf" in self.mode and what == "attach":
            return
        if "mute" in self.mode and what not in TESTS:
            return
        done: Answer = getattr(self, "on_" + what.replace("-", "_"), lambda request, fds: {})(request, fds)
        if done is not None:
            self.send(link, {"id": number, "error" if isinstance(done, str) else "done": done})
        if what == "destroy":
            self.add("ended", reason="destroyed", action="destroy", report=False, core=False)
            self.leave(0)
        if what == "dump" and done is None:
            self.dump = link, number
        if what == "save" and done is None:
            self.saving = link, number
            if "slow-save" not in self.mode:
                self.rest()
        if self.saved_for_good:
            self.add("ended", reason="saved", action="destroy", report=False, core=False)
            self.leave(0)

    def on_asked(self, request: Message, fds: list[int]) -> Answer:
        return {"asked": self.asked}

    def on_add(self, request: Message, fds: list[int]) -> Answer:
        for entry in request["entries"]:
            self.add(**entry)
        return {}

    def on_exit(self, request: Message, fds: list[int]) -> Answer:
        if "signal" in request:
            os.kill(os.getpid(), request["signal"])
        os._exit(request.get("status", 0))

    def on_behave(self, request: Message, fds: list[int]) -> Answer:
        self.mode = request["words"].split()
        return {}

    def on_open(self, request: Message, fds: list[int]) -> Answer:
        return {"open": len(os.listdir("/proc/self/fd"))}  # noqa: PTH208

    def on_processor(self, request: Message, fds: list[int]) -> Answer:
        return {"processor": ["software"] if "nonsense" in self.mode else "software", "cpuid": []}

    def on_vcpus(self, request: Message, fds: list[int]) -> Answer:
        if "nonsense" in self.mode:
            return {
                "vcpus": [7, {"state": [], "cpu_seconds": "many"}, {"cpu_seconds": -1}, {"cpu_seconds": True}]
            }
        state = "paused" if self.paused else "blocked"
        return {"vcpus": [{"state": state, "cpu_seconds": 1.5}, {"state": "offline", "cpu_seconds": 0}]}

    def on_devices(self, request: Message, fds: list[int]) -> Answer:
        if "nonsense" in self.mode:
            return NONSENSE
        counts = {"rd_req": 3, "wr_req": 4, "size_bytes": 512, "tx_bytes": 5, "rx_bytes": 6, "peer": "switch"}
        told = []
        for (kind, devid), device in self.devices.items():
            about = {"kind": kind, "devid": devid, "config": device["config"], "state": "Connected", **counts}
            told.append({**about, "served": int(device["description"].get("type") == "nbd")})
        return {"devices": told}

    def on_attach(self, request: Message, fds: list[int]) -> Answer:
        key = request["kind"], request["devid"]
        if "no-attach" in self.mode or key in self.devices:
            return f"{key} is not wanted"
        self.devices[key] = {**request, "fds": list(fds)}
        fds.clear()
        return {}

    def on_detach(self, request: Message, fds: list[int]) -> Answer:
        kind, devid = request["kind"], request["devid"]
        if (kind, devid) not in self.devices:
            return f"there is no {kind} {devid}"
        if "held" in self.mode and not request["force"]:
            return "the guest does not let go of it"
        for fd in self.devices.pop((kind, devid))["fds"]:
            os.close(fd)
        self.add("detached", kind_of_device=kind, devid=devid)
        return {}

    def on_configure_device(self, request: Message, fds: list[int]) -> Answer:
        return self.change(request, fds, "medium" in request["changes"])

    def on_reconnect_device(self, request: Message, fds: list[int]) -> Answer:
        return self.change(request, fds, True)

    def change(self, request: Message, fds: list[int], replaces: bool) -> Answer:
        device = self.devices.get((request["kind"], request["devid"]))
        if "no-change" in self.mode or device is None:
            return "it cannot be changed"
        if replaces:
            self.replace(device, request.get("description", request.get("changes", {}).get("medium")), fds)
            fds.clear()
        if "below" in request.get("changes", {}):
            device.setdefault("below", []).extend(fds)
            fds.clear()
        return {"packets": 7, "dropped": "x"} if "stop_capture" in request.get("changes", {}) else {}

    def replace(self, device: Message, description: Any, fds: list[int]) -> None:
        for fd in device["fds"]:
            os.close(fd)
        device["fds"], device["description"] = list(fds), description

    def on_pause(self, request: Message, fds: list[int]) -> Answer:
        self.paused = True
        self.add("paused")
        return {}

    def on_unpause(self, request: Message, fds: list[int]) -> Answer:
        self.paused = False
        self.add("unpaused")
        return {}

    def on_shutdown(self, request: Message, fds: list[int]) -> Answer:
        return {"listens": True}

    def on_nmi(self, request: Message, fds: list[int]) -> Answer:
        return {} if request["vcpu"] == 0 else f"the domain has no vCPU {request['vcpu']}"

    def on_trim(self, request: Message, fds: list[int]) -> Answer:
        if request["through"] == self.n:
            os.ftruncate(self.fds["journal"], 0)
        return {"trimmed": request["through"] == self.n}

    def on_dump(self, request: Message, fds: list[int]) -> Answer:
        if "no-dump" in self.mode:
            return "there is nothing to dump"
        os.write(fds[0], b"core")
        if "slow-dump" in self.mode:
            return None
        for link in self.links:
            self.send(link, {"id": request["id"], "progress": [1, 2]})
        return {"remarks": ["it is a stand-in"]}

    def on_cancel_dump(self, request: Message, fds: list[int]) -> Answer:
        if self.dump is not None:
            link, number = self.dump
            self.send(link, {"id": number, "error": "cancelled"})
        return {}

    # --- saves

    def on_save(self, request: Message, fds: list[int]) -> Answer:
        if "no-save" in self.mode:
            return "it cannot be saved now"
        with open(os.path.join(os.environ["XDG_RUNTIME_DIR"], CONTENT), "rb") as file:  # noqa: PTH118, PTH123
            os.write(fds[0], file.read())
        if "slow-save" in self.mode or (request.get("switch") and "restless" not in self.mode):
            return None
        for link in self.links:
            self.send(link, {"id": request["id"], "progress": [1, 2]})
        return {}

    def on_rest(self, request: Message, fds: list[int]) -> Answer:
        self.rest()
        return {}

    def rest(self) -> None:
        if self.saving is not None:
            link, number = self.saving
            for figures in ({"rounds": 2}, {"rest": 1}, {"rest": 1}):
                self.send(link, {"id": number, "figures": figures})

    def saved(self, **answer: Any) -> None:
        if self.saving is not None:
            link, number = self.saving
            self.saving = None
            self.send(link, {"id": number, **answer})

    def on_cancel_save(self, request: Message, fds: list[int]) -> Answer:
        self.saved(error="the save was cancelled")
        return {}

    def on_finish_save(self, request: Message, fds: list[int]) -> Answer:
        if "dies" in self.mode:
            os._exit(1)
        self.saved_for_good = not request["keep"] and not {"lost", "stays"} & set(self.mode)
        return {"saved": "lost" not in self.mode}

    def on_standby_device(self, request: Message, fds: list[int]) -> Answer:
        device = self.devices.get((request["kind"], request["devid"]))
        if "no-standby" in self.mode or device is None:
            return "nothing can stand by for it"
        for fd in device.get("standby", {}).get("fds", ()):
            os.close(fd)
        device["standby"] = {"fds": list(fds), "description": request["description"]}
        fds.clear()
        return {}

    def on_switched(self, request: Message, fds: list[int]) -> Answer:
        if "dies-at-rest" in self.mode:
            os._exit(1)
        if "full" in self.mode:
            self.saved(error="there is no room")
        if self.saving is None:
            return {"switched": False}
        if "no-switch" in self.mode:
            return "disk xvda: what stands by for it has another size"
        for device in self.devices.values():
            standby = device.pop("standby", None)
            if standby is not None:
                self.replace(device, standby["description"], standby["fds"])
        if "dies-switched" in self.mode:
            os._exit(1)
        if "stuck" not in self.mode:
            self.saved(done={"held_s": 0.25, "remarks": ["it stood still"]})
        return {"switched": True}

    # --- the guest

    def on_write(self, request: Message, fds: list[int]) -> Answer:
        return self.sector(request, NBD_WRITE, bytes([request["fill"]]) * SECTOR)

    def on_read(self, request: Message, fds: list[int]) -> Answer:
        return self.sector(request, NBD_READ, b"")

    def on_flush(self, request: Message, fds: list[int]) -> Answer:
        device = self.devices["vbd", request["devid"]]
        if device["description"]["type"] == "nbd":
            served(device["fds"][0], NBD_FLUSH, 0, b"")
        else:
            os.fsync(device["fds"][0])
        return {}

    def sector(self, request: Message, kind: int, data: bytes) -> Answer:
        """The first byte of what is there then."""
        device, at = self.devices["vbd", request["devid"]], request["at"]
        fd = device["fds"][0]
        try:
            if device["description"]["type"] == "nbd":
                return {"first": served(fd, kind, at, data)[0]}
            if data:
                os.pwrite(fd, data, at)
            return {"first": os.pread(fd, 1, at)[0]}
        except OSError as error:
            return str(error)


def served(fd: int, kind: int, at: int, data: bytes) -> bytes:
    """What the NBD server at the other end answers. OSError."""
    os.set_blocking(fd, True)
    size = 0 if kind == NBD_FLUSH else SECTOR
    os.write(fd, NBD_REQUEST.pack(0x25609513, 0, kind, 7, at, size) + data)
    error = NBD_REPLY.unpack(exactly(fd, NBD_REPLY.size))[1]
    if error:
        raise OSError(error, "the server refuses")
    return data or exactly(fd, size)


def exactly(fd: int, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = os.read(fd, count - len(data))
        if not more:
            raise ConnectionResetError("the server has gone")
        data += more
    return data


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with os.fdopen(int(sys.argv[1]), "rb") as file:
        order = json.load(file)
    Standin(order).run()
