"""Stands in for a domain process: holds the lock, writes a journal, answers on the control socket, runs no guest.

The words of its domain's `cmdline` say how it behaves: refuse, die, hang, mute, slow, no-dump; of devices: no-attach,
no-change, held (none is let go of), deaf (to what is attached), nonsense. It needs nothing but the standard library,
so that it is there at once. A test asks it for `add` (journal entries), `asked` (all requests so far), `open` (how
many descriptors it has) and `exit` over a control connection of its own.
"""

import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any

TESTS = ("asked", "add", "open", "exit")
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

    def on_open(self, request: Message, fds: list[int]) -> Answer:
        return {"open": len(os.listdir("/proc/self/fd"))}  # noqa: PTH208

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
        told = [
            {"kind": kind, "devid": devid, "config": device["config"], "state": "Connected", **counts}
            for (kind, devid), device in self.devices.items()
        ]
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
            for fd in device["fds"]:
                os.close(fd)
            device["fds"] = list(fds)
            fds.clear()
        return {"packets": 7, "dropped": "x"} if "stop_capture" in request.get("changes", {}) else {}

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


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with os.fdopen(int(sys.argv[1]), "rb") as file:
        order = json.load(file)
    Standin(order).run()
