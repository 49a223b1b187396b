"""What goes over the API, as JSON sees it. Times are seconds since the epoch, memory is MiB, durations are seconds."""

from typing import Annotated, Any, Literal, NotRequired, TypedDict


class Limit:
    """Bounds of a value: of a number itself, of a text's length; `pattern` a text must match whole."""

    def __init__(self, ge: int | None = None, le: int | None = None, pattern: str | None = None) -> None:
        self.ge = ge
        self.le = le
        self.pattern = pattern


Name = Annotated[str, Limit(1, 64)]
DomainState = Literal[
    "building", "running", "blocked", "paused", "shutdown", "crashed", "dying", "defined", "suspended"
]
"""`shutdown` and `crashed`: over, and preserved. `defined` and `suspended`: managed and not running."""


class Traffic(TypedDict):
    """What went through a domain's disks and interfaces since its present boot, all together."""

    vbds: int
    vbd_rd: int
    """Requests to read."""
    vbd_wr: int
    """Requests to write."""
    nets: int
    net_tx_bytes: int
    """Sent by the guest."""
    net_rx_bytes: int


class Domain(TypedDict):
    """A domain as it is now; Domain 0 is the host."""

    name: str
    domid: int | None
    """None while it is only defined."""
    uuid: str
    state: DomainState
    reason: str
    """Why it stopped, for shutdown and crashed: poweroff, reboot, suspend, crash, watchdog."""
    memory_mib: int
    maxmem_mib: int
    vcpus: int
    cpu_seconds: float
    started_at: float | None
    """When its present boot began."""
    uptime_seconds: float | None
    boots: int
    managed: bool
    autostart: bool
    processor: str
    pid: int | None
    folder: str
    """Console log, crash reports and core dumps."""
    console: str
    """The path of its console's socket; empty while it does not run."""
    config: dict[str, Any]
    """As `DomainConfig.to_mapping` writes it; empty for Domain 0."""
    traffic: NotRequired[Traffic]
    """Left out where it is not known."""
    leaving: NotRequired[str]
    """HOST:PORT where it may run already: it is held here until that is known, or somebody decides (`resolve`)."""


class Domains(TypedDict):
    domains: list[Domain]


class Vcpu(TypedDict):
    name: str
    domid: int
    vcpu: int
    cpu: int | None
    """The host CPU that it ran on last."""
    state: Literal["running", "blocked", "paused", "offline"]
    cpu_seconds: float
    affinity: str


class Vcpus(TypedDict):
    vcpus: list[Vcpu]


XenbusState = Literal["unknown", "initialising", "initwait", "initialised", "connected", "closing", "closed"]
"""The back end's, as xenbus names it: `connected` once the guest uses the device."""


class DiskInfo(TypedDict):
    """A virtual disk of a domain. Counts are since the domain's present boot."""

    vdev: str
    devid: int
    target: str
    """A path or an NBD URL; empty: a CD-ROM drive with nothing in it."""
    format: Literal["raw", "qcow2", "nbd"]
    mode: Literal["r", "w"]
    cdrom: bool
    overlay: bool
    state: XenbusState
    size_bytes: int
    sector_bytes: int
    limit_bytes: int
    """Most bytes a second; 0: no limit."""
    limit_requests: int
    """Most requests a second; 0: no limit."""
    rd_req: int
    wr_req: int
    rd_bytes: int
    wr_bytes: int
    errors: int
    """Requests that ended in an I/O error."""


class Disks(TypedDict):
    name: str
    domid: int | None
    disks: list[DiskInfo]


class ForwardInfo(TypedDict):
    """A port of the host's that leads to one of the guest's."""

    protocol: Literal["tcp", "udp"]
    host_address: str
    host_port: int
    guest_port: int


class InterfaceInfo(TypedDict):
    """A virtual network interface of a domain. Counts are since the domain's present boot, as the guest has them."""

    devid: int
    mac: str
    attachment: Literal["user", "isolated", "bridge", "network"]
    network: str
    """The name of the bridge, network or isolated switch; empty for the user network."""
    addresses: list[str]
    """What the guest may use as its own; empty: any."""
    rate_bytes: int
    """Most bytes a second that the guest may send; 0: no limit."""
    name: str
    """Of the host's device; empty where there is none."""
    state: XenbusState
    forwards: list[ForwardInfo]
    rx_bytes: int
    rx_packets: int
    rx_drops: int
    tx_bytes: int
    tx_packets: int
    tx_drops: int
    description: str
    """What carries it, in words."""


class Interfaces(TypedDict):
    name: str
    domid: int | None
    interfaces: list[InterfaceInfo]


class Capture(TypedDict):
    capture: str
    """Its id, for `stop_capture`."""


class Captured(TypedDict):
    packets: int
    """Written."""
    dropped: int
    """Lost because the file took them too slowly."""


class NetworkInfo(TypedDict):
    """A network that domains are attached to by name."""

    name: str
    kind: Literal["user", "isolated", "bridge", "routed", "nat"]
    bridge: str
    """The host's device; empty where there is none."""
    address: str
    """The host's own in it, with its prefix length; empty where it has none."""
    domains: list[str]


class Networks(TypedDict):
    networks: list[NetworkInfo]


class Info(TypedDict):
    """The host, and what runs here."""

    host: str
    release: str
    version: str
    machine: str
    nr_cpus: int
    cpu_model: str
    cpu_mhz: float | None
    total_memory_mib: int
    free_memory_mib: int
    """What a new domain may take."""
    domains: int
    processor: str
    processor_notes: list[str]
    xen_major: int
    xen_minor: int
    xen_caps: str
    xenion_version: str
    xend_pid: int
    xend_started_at: float
    xend_socket: str
    xenstore_socket: str | None
    """None: each domain has a store of its own yet."""
    run_folder: str
    state_folder: str


TaskState = Literal["running", "done", "failed", "cancelled"]


class Failure(TypedDict):
    code: str
    message: str


class Task(TypedDict):
    """A long operation. `progress` is from 0 to 1, None while it cannot be told; `figures` are what else it tells of
    itself, by their names."""

    id: str
    action: str
    domain: str
    state: TaskState
    step: str
    progress: float | None
    figures: dict[str, float]
    result: dict[str, Any]
    error: Failure | None
    started_at: float
    seconds: float
    seen: int
    """Grows with each change; a client that waits says which one it has seen."""


class Tasks(TypedDict):
    tasks: list[Task]


class LogEntry(TypedDict):
    """An action or a domain's own event; see docs/xend.md."""

    n: int
    time: float
    who: str
    action: str
    domain: str
    domid: int | None
    uuid: str
    result: str
    seconds: float | None
    detail: str
    begun: NotRequired[int]
    journal: NotRequired[int | None]


class Log(TypedDict):
    entries: list[LogEntry]


class Text(TypedDict):
    text: str


class Outcome(TypedDict):
    """What became of a domain that was started. `over`: its guest will not run again."""

    uuid: str
    over: bool
    reason: str
    """poweroff, reboot, suspend, crash, watchdog, destroyed, saved, migrated, died (its process, without a word);
    empty: runs."""
    action: str
    report: str
    core: str
    status: str
    """How the process ended, where that is known and not expected: the name of a signal or `exit status N`."""
    notes: list[str]


class Nothing(TypedDict):
    """An answer without content."""


class CreateRequest(TypedDict):
    config: dict[str, Any]
    paused: NotRequired[bool]
    request: NotRequired[Annotated[str, Limit(0, 64, "[A-Za-z0-9-]*")]]
    """A word of the client's: a repetition with the same word finds the domain that the first one made."""


class DefineRequest(TypedDict):
    config: dict[str, Any]


class StartRequest(TypedDict):
    paused: NotRequired[bool]
    anew: NotRequired[bool]
    """Also if it is suspended: what was in its memory is lost."""
    request: NotRequired[Annotated[str, Limit(0, 64, "[A-Za-z0-9-]*")]]


class SuspendRequest(TypedDict):
    as_it_stands: NotRequired[bool]
    """The guest is not asked to suspend itself first."""


class ResumeRequest(TypedDict):
    paused: NotRequired[bool]


class ShutdownRequest(TypedDict):
    mode: NotRequired[Literal["poweroff", "reboot", "halt"]]


class SysrqRequest(TypedDict):
    key: Annotated[str, Limit(1, 1, "[0-9A-Za-z]")]


class TriggerRequest(TypedDict):
    trigger: Literal["nmi", "reset", "init", "power", "sleep", "s3resume"]
    vcpu: NotRequired[Annotated[int, Limit(0, 63)]]


class VcpusRequest(TypedDict):
    vcpus: Annotated[int, Limit(1, 64)]
    """How many the guest is to have online."""


class Share(TypedDict):
    """What a domain gets of the host's CPUs."""

    name: str
    domid: int
    weight: int
    """256 is an ordinary domain's."""
    cap: int
    """Percent of one CPU; 0: no limit."""
    cpus: str
    """On which it runs."""
    mechanism: str
    """What keeps it: a version of control groups, or nice values and pauses."""


class ShareRequest(TypedDict):
    """What is left out stays."""

    weight: NotRequired[Annotated[int, Limit(1, 65535)]]
    cap: NotRequired[Annotated[int, Limit(0, 6400)]]
    cpus: NotRequired[Annotated[str, Limit(0, 4095)]]


class MemoryRequest(TypedDict):
    mib: Annotated[int, Limit(1, 1 << 20)]


class RenameRequest(TypedDict):
    name: Name


class DumpRequest(TypedDict):
    path: NotRequired[Annotated[str, Limit(0, 4095)]]
    """Absolute; empty: a file in the dumps' folder."""
    live: NotRequired[bool]
    crash: NotRequired[bool]


class SaveRequest(TypedDict):
    path: Annotated[str, Limit(1, 4095)]
    """Absolute. A pipe is written into: the domain ends when all has been read from it, and goes on if nobody does."""
    keep: NotRequired[bool]
    """The domain goes on afterwards."""
    as_it_stands: NotRequired[bool]
    """The guest is not asked to suspend itself first."""
    memory_only: NotRequired[bool]
    """With `keep`: what is on its disks is not kept: the file fits as long as nothing is written to them."""


class CheckpointRequest(TypedDict):
    name: NotRequired[Annotated[str, Limit(0, 64)]]
    """The time of day if left out."""
    suspend: NotRequired[bool]
    """The guest is asked to suspend itself first, so that it sets its clocks when it goes on from it."""


class Checkpoint(TypedDict):
    name: str
    path: str
    """Of the file that has its memory."""
    created_at: float
    size: int
    """Of the file, in bytes."""
    disks: bool
    """What was on its disks is kept as well."""
    there: bool
    """The file is."""


class Checkpoints(TypedDict):
    domain: str
    """Its name now."""
    checkpoints: list[Checkpoint]
    """The oldest first."""


class RestoreRequest(TypedDict):
    path: Annotated[str, Limit(1, 4095)]
    """Absolute."""
    paused: NotRequired[bool]
    force: NotRequired[bool]
    """Also if its disks have changed since."""
    back: NotRequired[bool]
    """To a checkpoint, with its disks as they were then: what was written since is lost."""
    name: NotRequired[Name]
    """Instead of the one that it had: it was given another one since."""


class MigrateRequest(TypedDict):
    host: Annotated[str, Limit(1, 255)]
    """A name or an address."""
    port: NotRequired[Annotated[int, Limit(1, 65535)]]
    """8002 if left out."""
    ssl: NotRequired[bool]
    ssh: NotRequired[bool]
    """Through ssh, to a xend that listens on that host's loopback; `host` may be USER@HOST."""
    live: NotRequired[bool]
    """Most of the memory is copied while the guest runs; otherwise it is held for all of it."""
    as_it_stands: NotRequired[bool]
    """The guest is not asked to suspend itself first; nor is it if it is moved live."""
    check: NotRequired[bool]
    """Only whether the host would take it."""
    same_disks: NotRequired[bool]
    """Devices of the same path are the same on both hosts."""
    most_mbit_per_s: NotRequired[Annotated[int, Limit(1, 1 << 30)]]
    abort_after_downtime_ms: NotRequired[Annotated[int, Limit(1, 1 << 30)]]
    """If the guest is likely to stand still for longer, it stays."""


class ResolveRequest(TypedDict):
    goes_on: Literal["source", "target"]
    """Where, of a migration whose last answer was lost; the target is asked for it otherwise."""


class ConfigRequest(TypedDict):
    config: dict[str, Any]


class AttachDiskRequest(TypedDict):
    disk: dict[str, Any]
    """As `Disk.to_mapping` writes it; see docs/config.md."""


Amount = Annotated[int, Limit(0, 1 << 53)]


class ConfigureDiskRequest(TypedDict):
    """What is left out stays."""

    limit_bytes: NotRequired[Amount]
    """Most bytes a second; 0: no limit."""
    limit_requests: NotRequired[Amount]
    """Most requests a second; 0: no limit."""
    target: NotRequired[Annotated[str, Limit(0, 4095)]]
    """Of a CD-ROM drive: the image that is put into it, an absolute path or an NBD URL; empty: it comes out."""
    resize_bytes: NotRequired[Amount]
    """The new size, which is larger; a file grows to it."""


class AttachInterfaceRequest(TypedDict):
    vif: dict[str, Any]
    """As `Vif.to_mapping` writes it; see docs/config.md."""


class ConfigureInterfaceRequest(TypedDict):
    """What is left out stays."""

    rate_bytes: NotRequired[Amount]
    """Most bytes a second that the guest may send; 0: no limit."""


class CaptureRequest(TypedDict):
    path: Annotated[str, Limit(1, 4095)]
    """Absolute: of a new file, or of a FIFO that is open for reading."""
    snaplen: NotRequired[Annotated[int, Limit(1, 262144)]]
    """Bytes of a frame that are kept at most; all of it if left out."""


class ListQuery(TypedDict):
    traffic: NotRequired[bool]
    """With what went through their disks and interfaces: each domain's process is asked."""


class DetachQuery(TypedDict):
    force: NotRequired[bool]
    """Do not wait for the guest to let go of it."""


class EventsQuery(TypedDict):
    since: NotRequired[Annotated[int, Limit(0, 1 << 53)]]
    """Entries after this number."""
    uuid: NotRequired[Annotated[str, Limit(0, 64)]]
    """Only those of the domain of this UUID."""


class LogQuery(EventsQuery):
    last: NotRequired[Annotated[int, Limit(0, 10000)]]
    """Only so many, the newest; 10000 if left out."""


class WaitQuery(TypedDict):
    wait: NotRequired[Annotated[float, Limit(0, 60)]]
    """Answer when it is over, or after so many seconds."""


class TaskQuery(WaitQuery):
    seen: NotRequired[Annotated[int, Limit(0, 1 << 53)]]
    """With `wait`: answer when the task has changed since."""


class ConsoleQuery(TypedDict):
    since: NotRequired[Annotated[int, Limit(-1, 1 << 53)]]
    """The number of the first byte wanted; -1: only what comes from now on. Left out: all that is kept."""
    read_only: NotRequired[bool]
