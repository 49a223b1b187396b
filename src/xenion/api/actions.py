"""The typed list of all actions: what xend serves, docs/api.md and the OpenAPI document describe, and xm calls."""

from dataclasses import dataclass
from typing import Any

from xenion.api import types as t

CHANGES = frozenset({"POST", "PUT", "DELETE"})
PREFIX = "/v1"


@dataclass(frozen=True, slots=True)
class Action:
    """`{domain}` in a path is a name, an id or a UUID, `{vdev}` a disk's canonical name, `{device}` an
    interface's number or MAC. `kind` is json, or the protocol of what streams.

    `result` Task: the answer is 202 and the task, which goes on.
    """

    name: str
    method: str
    path: str
    summary: str
    result: Any
    body: Any = None
    query: Any = None
    kind: str = "json"
    logged: bool = False
    """Enters the event log."""

    @property
    def status(self) -> int:
        return 202 if self.result is t.Task and self.method == "POST" else 200


def _get(name: str, path: str, summary: str, result: Any, query: Any = None, kind: str = "json") -> Action:
    return Action(name, "GET", PREFIX + path, summary, result, query=query, kind=kind)


def _post(
    name: str, path: str, summary: str, result: Any, body: Any = None, *, logged: bool = True
) -> Action:
    return Action(name, "POST", PREFIX + path, summary, result, body=body, logged=logged)


def _put(name: str, path: str, summary: str, result: Any, body: Any) -> Action:
    return Action(name, "PUT", PREFIX + path, summary, result, body=body, logged=True)


def _delete(name: str, path: str, summary: str, result: Any, query: Any = None) -> Action:
    return Action(name, "DELETE", PREFIX + path, summary, result, query=query, logged=True)


ACTIONS = (
    _get("info", "/info", "The host, xend and the processor", t.Info),
    _get("list", "/domains", "All domains, Domain 0 first", t.Domains, t.ListQuery),
    _post("create", "/domains", "Start a domain from a configuration", t.Task, t.CreateRequest),
    _get("domain", "/domains/{domain}", "One domain", t.Domain),
    _get("vcpus", "/domains/{domain}/vcpus", "A domain's virtual CPUs", t.Vcpus),
    _put(
        "set_vcpus",
        "/domains/{domain}/vcpus",
        "Ask the guest to have so many virtual CPUs online",
        t.Nothing,
        t.VcpusRequest,
    ),
    _put(
        "set_memory",
        "/domains/{domain}/memory",
        "Ask the guest to have so much memory",
        t.Nothing,
        t.MemoryRequest,
    ),
    _put(
        "set_maxmem",
        "/domains/{domain}/maxmem",
        "How much memory the guest may come to have",
        t.Nothing,
        t.MemoryRequest,
    ),
    _get("share", "/domains/{domain}/share", "What a domain gets of the host's CPUs", t.Share),
    _put("set_share", "/domains/{domain}/share", "Change it", t.Share, t.ShareRequest),
    _post("define", "/managed", "Define a managed domain, or define it anew", t.Domain, t.DefineRequest),
    _delete("delete", "/managed/{domain}", "Forget a managed domain", t.Nothing),
    _post("start", "/domains/{domain}/start", "Start a managed domain", t.Task, t.StartRequest),
    _post(
        "suspend",
        "/domains/{domain}/suspend",
        "Keep a managed domain's memory and end it",
        t.Task,
        t.SuspendRequest,
    ),
    _post("resume", "/domains/{domain}/resume", "Let a suspended domain go on", t.Task, t.ResumeRequest),
    _post("destroy", "/domains/{domain}/destroy", "End a domain at once", t.Nothing),
    _post(
        "shutdown",
        "/domains/{domain}/shutdown",
        "Ask the guest to power off, halt or reboot; the task is done when it has",
        t.Task,
        t.ShutdownRequest,
    ),
    _post("pause", "/domains/{domain}/pause", "Stop a domain's virtual CPUs", t.Nothing),
    _post("unpause", "/domains/{domain}/unpause", "Let a paused domain go on", t.Nothing),
    _post(
        "sysrq", "/domains/{domain}/sysrq", "Press a magic SysRq key in the guest", t.Nothing, t.SysrqRequest
    ),
    _post(
        "trigger", "/domains/{domain}/trigger", "Send an event to a virtual CPU", t.Nothing, t.TriggerRequest
    ),
    _post("rename", "/domains/{domain}/rename", "Give a domain another name", t.Domain, t.RenameRequest),
    _post(
        "dump",
        "/domains/{domain}/dump",
        "Write the guest's memory to an ELF core file",
        t.Task,
        t.DumpRequest,
    ),
    _post(
        "save", "/domains/{domain}/save", "Write a running domain to a file and end it", t.Task, t.SaveRequest
    ),
    _post(
        "checkpoint",
        "/domains/{domain}/checkpoints",
        "Keep a running domain as it is now, memory and disks; it goes on",
        t.Task,
        t.CheckpointRequest,
    ),
    _get("checkpoints", "/domains/{domain}/checkpoints", "The checkpoints of a domain", t.Checkpoints),
    _delete(
        "delete_checkpoint",
        "/domains/{domain}/checkpoints/{checkpoint}",
        "Forget a checkpoint, and what of its disks nobody else needs",
        t.Nothing,
    ),
    _post(
        "merge_checkpoints",
        "/domains/{domain}/merge-checkpoints",
        "Put together what checkpoints that are gone have left apart, of a domain that does not run",
        t.Task,
    ),
    _post("restore", "/restore", "Let a saved domain go on", t.Task, t.RestoreRequest),
    _post(
        "migrate",
        "/domains/{domain}/migrate",
        "Move a running domain to another host",
        t.Task,
        t.MigrateRequest,
    ),
    _post(
        "resolve",
        "/domains/{domain}/resolve",
        "Say where a domain goes on whose migration is not decided",
        t.Nothing,
        t.ResolveRequest,
    ),
    _put(
        "configure",
        "/domains/{domain}/config",
        "Replace a domain's configuration; it holds from the next boot on",
        t.Domain,
        t.ConfigRequest,
    ),
    _get("disks", "/domains/{domain}/disks", "A domain's virtual disks", t.Disks),
    _post(
        "attach_disk",
        "/domains/{domain}/disks",
        "Give a domain another disk",
        t.DiskInfo,
        t.AttachDiskRequest,
    ),
    _put(
        "configure_disk",
        "/domains/{domain}/disks/{vdev}",
        "Change a disk's limits, what is in a CD-ROM drive, or make a disk larger",
        t.DiskInfo,
        t.ConfigureDiskRequest,
    ),
    _delete(
        "detach_disk", "/domains/{domain}/disks/{vdev}", "Take a disk from a domain", t.Nothing, t.DetachQuery
    ),
    _get("interfaces", "/domains/{domain}/interfaces", "A domain's network interfaces", t.Interfaces),
    _post(
        "attach_interface",
        "/domains/{domain}/interfaces",
        "Give a domain another network interface",
        t.InterfaceInfo,
        t.AttachInterfaceRequest,
    ),
    _put(
        "configure_interface",
        "/domains/{domain}/interfaces/{device}",
        "Change how much a guest may send",
        t.InterfaceInfo,
        t.ConfigureInterfaceRequest,
    ),
    _delete(
        "detach_interface",
        "/domains/{domain}/interfaces/{device}",
        "Take a network interface from a domain",
        t.Nothing,
        t.DetachQuery,
    ),
    _post(
        "capture",
        "/domains/{domain}/interfaces/{device}/capture",
        "Write what goes through an interface to a file, as pcap",
        t.Capture,
        t.CaptureRequest,
    ),
    _delete(
        "stop_capture", "/domains/{domain}/interfaces/{device}/capture/{capture}", "End a capture", t.Captured
    ),
    _get("networks", "/networks", "The networks there are", t.Networks),
    _get(
        "console",
        "/domains/{domain}/console",
        "A domain's console: a WebSocket of binary messages",
        t.Nothing,
        t.ConsoleQuery,
        "websocket",
    ),
    _get("outcome", "/outcomes/{uuid}", "What became of a domain", t.Outcome, t.WaitQuery),
    _get("log", "/log", "The event log", t.Log, t.LogQuery),
    _get(
        "events", "/events", "New entries of the event log as they come", t.LogEntry, t.EventsQuery, "events"
    ),
    _get("dmesg", "/dmesg", "The hypervisor's message ring", t.Text),
    _post("clear_dmesg", "/dmesg/clear", "Empty the ring; the answer is what was in it", t.Text),
    _get("tasks", "/tasks", "Tasks that run or have lately ended", t.Tasks),
    _get("task", "/tasks/{task}", "One task", t.Task, t.TaskQuery),
    _delete("cancel", "/tasks/{task}", "Cancel a task", t.Task),
)

BY_NAME = {action.name: action for action in ACTIONS}
OPENAPI_PATH = PREFIX + "/openapi.json"
