"""What the journals of domains say, entered into the event log and the message ring, and what follows from it.

An entry counts as entered only when the event log has it, and is entered once, however often xend is killed.
"""

from collections.abc import Callable
from typing import Any

from xenion.config.domain import Action
from xenion.xend import logs
from xenion.xend.entries import without_device
from xenion.xend.eventlog import EventLog, Noted
from xenion.xend.live import Live
from xenion.xend.record import Record, share_of
from xenion.xend.ring import MessageRing

NOTES_KEPT, NOTE_CHARACTERS = 100, 1000
WHO, GONE = "domain", "gone"
NAME, CONFIGURATION, LOG, SUCCESSOR = "name", "configuration", "log", "successor"
STORE, DEVICES, RECONCILE, SHARE = "store", "devices", "reconcile", "share"
"""What a record's `wants` may hold, beside the names of spare files."""
ARRIVE, LEAVE = "arrive", "leave"
"""And, of a domain on its way between hosts, what is to be done about it: see xenion.xend.migration."""
DETACHED, LOST = "detached", "lost"
"""And, each with a device's kind and number behind it, what has become of that device."""
_CRASHES = {"crash": "crashed", "watchdog": "was ended by its watchdog"}
_COMES_BACK = {Action.RESTART, Action.COREDUMP_RESTART}
"""The process boots the guest again; otherwise it ends, or keeps what has stopped."""


class Chronicle:
    def __init__(self, log: EventLog, ring: MessageRing) -> None:
        self._log = log
        self._ring = ring
        self._takers: dict[str, Callable[[Live, dict[str, Any]], None]] = {
            "running": self._on_running,
            "echo": self._on_echo,
            "loaded": self._on_loaded,
            "refused": self._on_refused,
            "paused": self._on_paused,
            "unpaused": self._on_paused,
            "resized": self._on_resized,
            "note": self._on_note,
            "ended": self._on_ended,
            "preserved": self._on_preserved,
            "log-full": self._on_log_full,
            "leaving": self._on_leaving,
            "detached": self._on_detached,
            "lost": self._on_lost,
        }

    def read(self, live: Live) -> bool:
        """Takes a part of what is new in the domain's journal; whether there was something. EventLogError."""
        before = live.journal.read_to
        for entry in live.journal.entries(live.condition.n):
            self._takers[entry["kind"]](live, entry)
            live.condition.n = entry["n"]
        return live.journal.read_to != before

    async def settle(self) -> None:
        """Returns when all of it is on the disk. EventLogError."""
        await self._log.sync()

    def gone(self, live: Live, failure: str) -> None:
        """The last entry about it. `failure`: what was wrong with its end. EventLogError."""
        if failure:
            self._ring.add(f"d{live.domid}: {failure}")
        self._note(live, GONE, detail=failure, result="failed" if failure else "", journal=0)

    def told(self, live: Live, action: str, result: Noted, detail: str) -> None:
        """What xend does for a domain by itself. EventLogError."""
        self._note(live, action, result=result, detail=detail)

    def has_told_of_end(self, made: Record) -> bool:
        """Whether `gone` was the last to be entered about this domain, under its present id."""
        told = [entry for entry in self._log.entries(last=NOTES_KEPT, uuid=made.uuid) if entry["who"] == WHO]
        return bool(told) and told[-1]["action"] == GONE and told[-1]["domid"] == made.domid

    # --- entering

    def _enter(
        self,
        live: Live,
        entry: dict[str, Any],
        detail: str = "",
        action: str = "",
        result: Noted = "",
        said: str = "",
    ) -> None:
        """`said` goes to the message ring, unless an earlier xend has put it there."""
        journal, when = entry["n"], entry["time"]
        new = journal > self._log.journal_position(live.uuid)
        action = action or entry["kind"]
        if (
            self._note(live, action, detail=detail, result=result, journal=journal, when=when)
            and said
            and new
        ):
            self._ring.add(said)

    def _note(self, live: Live, action: str, **fields: Any) -> bool:
        """No domain can push others' entries out of the log: what comes too fast is counted and left out, False."""
        if action != GONE and not live.allowance.take():
            return False
        about: dict[str, Any] = {"domain": live.name, "domid": live.domid, "uuid": live.uuid}
        if left_out := live.allowance.left_out():
            self._log.note(
                WHO, "note", detail=f"{left_out} entries were left out: they came too fast", **about
            )
        self._log.note(WHO, action, **about, **fields)
        return True

    # --- one kind each

    def _on_running(self, live: Live, entry: dict[str, Any]) -> None:
        condition = live.condition
        condition.boot, condition.cpu_base = entry["boot"], entry["cpu_base"]
        condition.started_at = entry["time"]
        if CONFIGURATION not in live.record.wants:
            condition.memory_mib = live.record.config.memory_mib
            condition.maxmem_mib = condition.built_mib = live.record.config.most_memory_mib
            condition.vcpus = live.record.config.vcpus
            if condition.boot > 1:  # what was changed meanwhile held for the boot before
                live.record.share = share_of(live.record.config)
                live.record.want(SHARE)
        condition.state = "paused" if entry["paused"] else "running"
        condition.reason = condition.action = ""
        self._enter(live, entry, f"boot {condition.boot}", "booted")

    def _on_echo(self, live: Live, entry: dict[str, Any]) -> None:
        """For the source only."""
        live.condition.echo = entry["number"]

    def _on_loaded(self, live: Live, entry: dict[str, Any]) -> None:
        live.condition.loaded = True
        self._enter(live, entry)

    def _on_refused(self, live: Live, entry: dict[str, Any]) -> None:
        live.condition.refusal, live.condition.reason = entry["text"], "refused"
        self._enter(live, entry, entry["text"], result="refused")

    def _on_paused(self, live: Live, entry: dict[str, Any]) -> None:
        live.condition.state = "paused" if entry["kind"] == "paused" else "running"
        self._enter(live, entry)

    def _on_resized(self, live: Live, entry: dict[str, Any]) -> None:
        condition = live.condition
        condition.vcpus = entry["vcpus"]
        condition.memory_mib = min(entry["memory_mib"], live.built_mib)
        condition.maxmem_mib = min(entry["maxmem_mib"], live.built_mib)
        self._enter(
            live,
            entry,
            f"{condition.memory_mib} MiB of {condition.maxmem_mib}, {condition.vcpus} virtual CPUs",
        )

    def _on_note(self, live: Live, entry: dict[str, Any]) -> None:
        live.condition.notes = [*live.condition.notes, entry["text"][:NOTE_CHARACTERS]][-NOTES_KEPT:]
        self._enter(live, entry, entry["text"], said=f"d{live.domid}: {entry['text']}")

    def _on_ended(self, live: Live, entry: dict[str, Any]) -> None:
        condition = live.condition
        condition.reason, condition.action = entry["reason"], entry["action"]
        condition.report = condition.core = ""
        stopped = "crashed" if condition.reason in _CRASHES else "shutdown"
        condition.state = "building" if condition.action in _COMES_BACK else stopped
        if entry["cpu_seconds"] is not None:
            condition.cpu_seconds = entry["cpu_seconds"]
        kept = [self._keep(live, kind, entry["time"]) for kind in logs.SPARES if entry[kind]]
        said = ""
        if condition.reason in _CRASHES:
            said = f"Domain {live.domid} ({live.name}) {_CRASHES[condition.reason]}: {', '.join(kept)}"
        self._enter(live, entry, ", ".join([f"{condition.reason}: {condition.action}", *kept]), said=said)

    def _keep(self, live: Live, kind: str, when: float) -> str:
        """The path of a spare file that is in use now, or why it has none; the process gets another one."""
        live.record.want(kind)
        try:
            path = logs.keep(live.logs, kind, when)
        except OSError as error:
            return f"the {kind} is lost: {error.strerror}"
        setattr(live.condition, kind, path.name)
        return str(path)

    def _on_preserved(self, live: Live, entry: dict[str, Any]) -> None:
        if entry["action"] == Action.RENAME_RESTART:
            live.record.want(SUCCESSOR)
        live.record.want(DEVICES)
        self._enter(live, entry)

    def _on_detached(self, live: Live, entry: dict[str, Any]) -> None:
        """Its process holds the device no more, and its configuration has it no more."""
        kind, devid = entry["kind_of_device"], entry["devid"]
        held = live.record.entry_of(kind, devid)
        if held is not None:
            live.record.config = without_device(live.record.config, held)
            live.record.want(f"{DETACHED} {kind} {devid}")
            self._enter(live, entry, f"{kind} {devid}")

    def _on_lost(self, live: Live, entry: dict[str, Any]) -> None:
        kind, devid = entry["kind_of_device"], entry["devid"]
        if live.record.entry_of(kind, devid) is not None:
            live.record.want(f"{LOST} {kind} {devid}")
            self._enter(live, entry, f"{kind} {devid}")

    def _on_log_full(self, live: Live, entry: dict[str, Any]) -> None:
        live.record.want(LOG)
        self._enter(live, entry)

    def _on_leaving(self, live: Live, entry: dict[str, Any]) -> None:
        live.condition.state = "dying"
        self._enter(live, entry)
