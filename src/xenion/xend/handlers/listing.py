"""info, list, domain, vcpus, console, outcome: what there is."""

import asyncio
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from xenion.abi.version import MAJOR, MINOR
from xenion.api import types as t
from xenion.api.errors import ApiError
from xenion.api.installed import version_of
from xenion.processor.choose import AUTOMATIC, notes
from xenion.xend import host, record, told
from xenion.xend.call import Call, Handler
from xenion.xend.live import Live
from xenion.xend.managed import Managed
from xenion.xend.managed import shown as shown_managed
from xenion.xend.registry import DOMAIN_0, HOST_WORDS, UUID_0
from xenion.xend.services import Services

XEN_CAPS = "xen-3.0-x86_64"
TRAFFIC_S = 1.0
"""A process that hangs does not keep the list from coming."""


class Listing:
    def __init__(self, services: Services) -> None:
        self._services = services

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "info": self._info,
            "list": self._list,
            "domain": self._domain,
            "vcpus": self._vcpus,
            "console": self._console,
            "outcome": self._outcome,
        }

    async def _info(self, call: Call) -> t.Info:
        services, memory = self._services, host.memory()
        model, mhz = host.cpu()
        uname = platform.uname()
        return {
            "host": uname.node,
            "release": uname.release,
            "version": uname.version,
            "machine": uname.machine,
            "nr_cpus": os.cpu_count() or 1,
            "cpu_model": model,
            "cpu_mhz": mhz,
            "total_memory_mib": memory.total,
            "free_memory_mib": host.free_mib(services.registry.promised()),
            "domains": len(services.registry.live) + 1,
            "processor": AUTOMATIC,
            "processor_notes": notes(),
            "xen_major": MAJOR,
            "xen_minor": MINOR,
            "xen_caps": XEN_CAPS,
            "xenion_version": version_of("xenion"),
            "xend_pid": os.getpid(),
            "xend_started_at": services.started_at,
            "xend_socket": str(services.where.socket),
            "xenstore_socket": str(services.where.xenstore_socket),
            "run_folder": str(services.where.run),
            "state_folder": str(services.where.state),
        }

    async def _list(self, call: Call) -> t.Domains:
        registry = self._services.registry
        running = [live.shown() for live in sorted(registry.live.values(), key=lambda live: live.domid)]
        defined = [
            shown_managed(managed, registry.where)
            for managed in registry.managed
            if managed.uuid not in registry.live
        ]
        defined.sort(key=lambda domain: domain["name"])
        if call.query.get("traffic"):
            await asyncio.gather(*(self._add_traffic(domain) for domain in running))
        return {"domains": [domain_0(running), *running, *defined]}

    async def _add_traffic(self, domain: t.Domain) -> None:
        live = self._services.registry.live.get(domain["uuid"])
        if live is None or not live.linked:
            return
        with suppress(ApiError):
            has = await told.devices(live, TRAFFIC_S) if live.record.devices else {}
            domain["traffic"] = told.traffic(has)

    async def _domain(self, call: Call) -> t.Domain:
        word = call.parameters["domain"]
        if word in HOST_WORDS:
            return domain_0([live.shown() for live in self._services.registry.live.values()])
        return shown(self._services, self._services.registry.find(word))

    async def _vcpus(self, call: Call) -> t.Vcpus:
        word = call.parameters["domain"]
        if word in HOST_WORDS:
            return {"vcpus": [_host_cpu(cpu) for cpu in range(os.cpu_count() or 1)]}
        return {"vcpus": await _vcpus_of(self._services.registry.need_live(word))}

    async def _console(self, call: Call) -> Path:
        return self._services.registry.need_live(call.parameters["domain"]).folder / record.CONSOLE

    async def _outcome(self, call: Call) -> t.Outcome:
        uuid = call.parameters["uuid"]
        live = self._services.registry.live.get(uuid)
        if live is not None:
            wait = call.query.get("wait", 0)
            if wait:
                await _within(wait, live.until(lambda: bool(live.outcome()["over"])))
            if not live.gone.is_set():
                return outcome(live.outcome())
        ended = self._services.outcomes.get(uuid)
        if ended is None:
            raise ApiError(
                "no-such-domain", f"there is and was no domain of the UUID {uuid}, or it ended long ago"
            )
        return outcome(ended)


async def _vcpus_of(live: Live) -> list[t.Vcpu]:
    cpu = host.main_thread(live.pid).cpu
    return [
        {
            "name": live.name,
            "domid": live.domid,
            "vcpu": number,
            "cpu": None if state == "offline" else cpu,
            "state": state,  # type: ignore[typeddict-item]
            "cpu_seconds": seconds,
            "affinity": live.record.share.cpus or "any",
        }
        for number, (state, seconds) in enumerate(await told.vcpus(live))
    ]


async def _within(seconds: float, work: Any) -> None:
    try:
        await asyncio.wait_for(work, seconds)
    except TimeoutError:
        return


def outcome(values: Mapping[str, Any]) -> t.Outcome:
    return {key: values[key] for key in t.Outcome.__annotations__}  # type: ignore[return-value]


def shown(services: Services, found: Live | Managed) -> t.Domain:
    """Either kind of domain, as the API tells it."""
    return found.shown() if isinstance(found, Live) else shown_managed(found, services.where)


def domain_0(others: list[t.Domain]) -> t.Domain:
    """The host: what it uses for itself is what domains do not."""
    memory = host.memory()
    return {
        "name": DOMAIN_0,
        "domid": 0,
        "uuid": UUID_0,
        "state": "running",
        "reason": "",
        "memory_mib": memory.total,
        "maxmem_mib": memory.total,
        "vcpus": os.cpu_count() or 1,
        "cpu_seconds": max(host.busy_seconds() - sum(domain["cpu_seconds"] for domain in others), 0.0),
        "started_at": host.boot_time(),
        "uptime_seconds": max(host.now() - host.boot_time(), 0.0),
        "boots": 1,
        "managed": False,
        "autostart": False,
        "processor": "host",
        "pid": None,
        "folder": "",
        "console": "",
        "config": {},
    }


def _host_cpu(number: int) -> t.Vcpu:
    return {
        "name": DOMAIN_0,
        "domid": 0,
        "vcpu": number,
        "cpu": number,
        "state": "running",
        "cpu_seconds": host.cpu_busy_seconds(number),
        "affinity": "any",
    }
