"""What xend is made of, as the handlers of actions get it."""

import time
from dataclasses import dataclass, field

from xenion.api.folders import Folders
from xenion.xend.chronicle import Chronicle
from xenion.xend.errands import Errands
from xenion.xend.eventlog import EventLog
from xenion.xend.outcomes import Outcomes
from xenion.xend.registry import Registry
from xenion.xend.renaming import Renaming
from xenion.xend.ring import MessageRing
from xenion.xend.starter import Starter
from xenion.xend.supervisor import Supervisor
from xenion.xend.tasks import Tasks


@dataclass(frozen=True, slots=True)
class Services:
    where: Folders
    registry: Registry
    supervisor: Supervisor
    errands: Errands
    renaming: Renaming
    starter: Starter
    tasks: Tasks
    log: EventLog
    ring: MessageRing
    outcomes: Outcomes
    started_at: float = field(default_factory=time.time)


def make_services(where: Folders) -> Services:
    """With everything that an earlier xend has left. OSError, EventLogError."""
    log = EventLog.open(where.state)
    registry, tasks, outcomes = Registry(where), Tasks(), Outcomes(where.run)
    ring = MessageRing(where.state / "hypervisor.log")
    chronicle, renaming = Chronicle(log, ring), Renaming(registry)
    errands = Errands(registry, chronicle, outcomes, renaming)
    supervisor = Supervisor(registry, chronicle, outcomes, renaming, errands)
    starter = Starter(registry, supervisor, outcomes)
    errands.restart = starter.start
    return Services(where, registry, supervisor, errands, renaming, starter, tasks, log, ring, outcomes)
