"""A domain gets another name: that holds once it is written down; its logs' folder follows, after a kill too."""

import logging
from collections.abc import Callable
from dataclasses import replace

from xenion.api.errors import ApiError
from xenion.xend import logs
from xenion.xend.chronicle import NAME
from xenion.xend.live import Live
from xenion.xend.managed import Managed
from xenion.xend.registry import Registry

_logger = logging.getLogger(__name__)


class Renaming:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def rename(self, live: Live, name: str) -> None:
        """ApiError: it has its old name."""
        made, before, wants = live.record, live.record.config, list(live.record.wants)
        made.name, made.config = name, replace(before, name=name)
        made.want(NAME)
        try:
            live.save()
        except ApiError:
            made.name, made.config, made.wants = before.name, before, wants
            raise
        self.finish(live)

    def rename_managed(self, managed: Managed, name: str) -> None:
        """One that does not run. ApiError: it has its old name."""
        renamed = Managed(replace(managed.config, name=name), managed.logs)
        self._registry.managed.put(renamed)
        self.finish_managed(renamed)

    def finish(self, live: Live) -> None:
        """What follows from the record, unless it is done."""
        made, definitions = live.record, self._registry.managed
        if made.logs != made.name and self._move_logs(made.logs, made.name):
            made.logs = made.name
            _attempt(live.save)
        managed = definitions.get(live.uuid) if made.managed else None
        if managed is not None and (managed.name, managed.logs) != (made.name, made.logs):
            renamed = Managed(replace(managed.config, name=made.name), made.logs)
            _attempt(lambda: definitions.put(renamed))

    def finish_managed(self, managed: Managed) -> None:
        """What follows from the definition of a domain that does not run, unless it is done."""
        if managed.logs != managed.name and self._move_logs(managed.logs, managed.name):
            _attempt(lambda: self._registry.managed.put(replace(managed, logs=managed.name)))

    def _move_logs(self, old: str, new: str) -> bool:
        where = self._registry.where
        try:
            logs.move(where.logs(old), where.logs(new))
        except OSError as error:
            _logger.error("the logs of %s stay in %s: %s", new, where.logs(old), error)
            return False
        return True


def _attempt(write: Callable[[], None]) -> None:
    """What is not written now is found undone, and done, by the next xend."""
    try:
        write()
    except ApiError as error:
        _logger.error("%s", error)
