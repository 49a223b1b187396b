"""share, set_share: what domains get of the host's CPUs."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from xenion.api import types as t
from xenion.api.errors import ApiError
from xenion.xend.call import Call, Handler
from xenion.xend.live import Live
from xenion.xend.scheduling import affinity
from xenion.xend.services import Services


class Shares:
    def __init__(self, services: Services) -> None:
        self._services = services

    def handlers(self) -> Mapping[str, Handler]:
        return {"share": self._share, "set_share": self._set_share}

    async def _share(self, call: Call) -> t.Share:
        return self._shown(self._services.registry.need_live(call.parameters["domain"]))

    async def _set_share(self, call: Call) -> t.Share:
        """All of it, or none."""
        live = self._services.registry.need_live(call.parameters["domain"])
        before, share = live.record.share, replace(live.record.share, **call.body)
        if share.cpus:
            share = replace(share, cpus=affinity.shown(affinity.parse(share.cpus)))
        live.record.share = share
        try:
            await self._services.scheduler.apply(live)
            live.save()
        except ApiError:
            if live.record.share is share:  # nobody has changed it meanwhile
                live.record.share = before
            with suppress(ApiError):
                await self._services.scheduler.apply(live)
            raise
        return self._shown(live)

    def _shown(self, live: Live) -> t.Share:
        share = live.record.share
        return {
            "name": live.name,
            "domid": live.domid,
            "weight": share.weight,
            "cap": share.cap,
            "cpus": share.cpus or "all",
            "mechanism": self._services.scheduler.mechanism,
        }
