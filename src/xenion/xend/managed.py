"""Managed domains: defined once, kept over restarts of xend and of the host. A file each, STATE/managed/UUID.json."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xenion.api import types as t
from xenion.api.errors import ApiError
from xenion.api.folders import Folders
from xenion.config.domain import ConfigError, DomainConfig
from xenion.xend.storage import folder_of_files, read_json, remove, write_json
from xenion.xend.suspended import is_suspended

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Managed:
    """`config.uuid` is its UUID; `logs` the name of its logs' folder, which follows a rename a step later."""

    config: DomainConfig
    logs: str

    @property
    def uuid(self) -> str:
        return self.config.uuid

    @property
    def name(self) -> str:
        return self.config.name


class ManagedDomains:
    """All definitions, in memory and on the disk."""

    def __init__(self, where: Folders) -> None:
        self._where = where
        self._folder = folder_of_files(where.managed)
        self._all: dict[str, Managed] = {}
        for path in sorted(self._folder.glob("*.json")):
            try:
                values = read_json(path)
                found = Managed(DomainConfig.from_mapping(values["config"]), str(values["logs"]))
            except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
                _logger.error("%s is left alone: %s", path, error)
                continue
            self._all[found.uuid] = found

    def __iter__(self) -> Iterator[Managed]:
        return iter(list(self._all.values()))

    def get(self, uuid: str) -> Managed | None:
        return self._all.get(uuid)

    def named(self, name: str) -> Managed | None:
        return next((managed for managed in self._all.values() if managed.name == name), None)

    def put(self, managed: Managed) -> None:
        """On the disk when it returns. ApiError (failed)."""
        values = {"config": managed.config.to_mapping(), "logs": managed.logs}
        try:
            write_json(self._path(managed.uuid), values, durable=True)
        except OSError as error:
            raise ApiError("failed", f"{self._path(managed.uuid)}: {error.strerror}") from error
        self._all[managed.uuid] = managed

    def forget(self, managed: Managed) -> None:
        try:
            remove(self._path(managed.uuid))
        except OSError as error:
            raise ApiError("failed", f"{self._path(managed.uuid)}: {error.strerror}") from error
        self._all.pop(managed.uuid, None)

    def _path(self, uuid: str) -> Path:
        return self._folder / f"{uuid}.json"


def shown(managed: Managed, where: Folders) -> t.Domain:
    """One that does not run, as the API tells it."""
    config, state = managed.config, where.logs(managed.logs)
    return {
        "name": config.name,
        "domid": None,
        "uuid": config.uuid,
        "state": "suspended" if is_suspended(state) else "defined",
        "reason": "",
        "memory_mib": config.memory_mib,
        "maxmem_mib": config.most_memory_mib,
        "vcpus": config.vcpus,
        "cpu_seconds": 0.0,
        "started_at": None,
        "uptime_seconds": None,
        "boots": 0,
        "managed": True,
        "autostart": config.on_xend_start == "start",
        "processor": config.processor,
        "pid": None,
        "folder": str(state),
        "console": "",
        "config": config.to_mapping(),
    }
