"""sysrq, trigger, set_vcpus, set_memory, set_maxmem, rename, configure: what else can be asked of a domain."""

from collections.abc import Mapping
from dataclasses import replace

from xenion.api import types as t
from xenion.api.errors import ApiError
from xenion.config.domain import ConfigError, check_name
from xenion.xend import host
from xenion.xend.boot_files import boot_files
from xenion.xend.call import Call, Handler
from xenion.xend.handlers.creation import config_of
from xenion.xend.handlers.listing import shown
from xenion.xend.managed import Managed
from xenion.xend.services import Services


class Control:
    def __init__(self, services: Services) -> None:
        self._services = services

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "sysrq": self._sysrq,
            "trigger": self._trigger,
            "set_vcpus": self._set_vcpus,
            "set_memory": self._set_memory,
            "set_maxmem": self._set_maxmem,
            "rename": self._rename,
            "configure": self._configure,
        }

    async def _sysrq(self, call: Call) -> t.Nothing:
        live = self._services.registry.need_live(call.parameters["domain"])
        await live.ask("sysrq", key=call.body["key"])
        return {}

    async def _trigger(self, call: Call) -> t.Nothing:
        live = self._services.registry.need_live(call.parameters["domain"])
        trigger = call.body["trigger"]
        if trigger != "nmi":
            raise ApiError(
                "wrong-state", f"{trigger} is for fully virtualised guests: {live.name} is paravirtualised"
            )
        await live.ask("nmi", vcpu=call.body.get("vcpu", 0))
        return {}

    async def _set_vcpus(self, call: Call) -> t.Nothing:
        live = self._services.registry.need_live(call.parameters["domain"])
        await live.ask("set-vcpus", vcpus=call.body["vcpus"])
        return {}

    async def _set_memory(self, call: Call) -> t.Nothing:
        live = self._services.registry.need_live(call.parameters["domain"])
        await live.ask("set-memory", mib=call.body["mib"])
        return {}

    async def _set_maxmem(self, call: Call) -> t.Nothing:
        live = self._services.registry.need_live(call.parameters["domain"])
        await live.ask("set-maxmem", mib=call.body["mib"])
        return {}

    async def _rename(self, call: Call) -> t.Domain:
        services, name = self._services, call.body["name"]
        found = services.registry.find(call.parameters["domain"])
        try:
            check_name(name)
        except ConfigError as error:
            raise ApiError("bad-request", str(error)) from error
        services.registry.check_open(found.name)
        services.registry.check_name_is_free(name, found.uuid)
        if isinstance(found, Managed):
            services.renaming.rename_managed(found, name)
        elif name != found.name:
            services.renaming.rename(found, name)
            services.supervisor.look_after(found)
        return shown(services, services.registry.find(found.uuid))

    async def _configure(self, call: Call) -> t.Domain:
        """Name and UUID stay; everything else holds from the next boot on."""
        services = self._services
        services.registry.find(call.parameters["domain"])
        config = config_of(call)
        async with boot_files(config):
            pass
        found = services.registry.find(call.parameters["domain"])  # as it is by now
        config = replace(config, name=found.name, uuid=found.uuid)
        if isinstance(found, Managed):
            found = Managed(config, found.logs)
            services.registry.managed.put(found)
        else:
            host.admit(config, services.registry.promised(), has=found.built_mib)
            await services.errands.configure(found, config)
        return shown(services, found)
