"""What xend is made of, as the handlers of actions get it."""

import time
from dataclasses import dataclass, field

from xenion.api.folders import Folders
from xenion.xend.attaching import Attaching
from xenion.xend.chronicle import ARRIVE, LEAVE, Chronicle
from xenion.xend.devices import Devices
from xenion.xend.errands import Errands
from xenion.xend.eventlog import EventLog
from xenion.xend.mending import Mending
from xenion.xend.migration.arrivals import Arrivals
from xenion.xend.migration.connecting import Connector
from xenion.xend.migration.decided import Decided
from xenion.xend.migration.departures import Departures
from xenion.xend.migration.incoming import Incoming
from xenion.xend.migration.listening import Listening
from xenion.xend.migration.outgoing import Outgoing
from xenion.xend.networks.plugging import Networks
from xenion.xend.outcomes import Outcomes
from xenion.xend.registry import Registry
from xenion.xend.renaming import Renaming
from xenion.xend.restorer import Restorer
from xenion.xend.ring import MessageRing
from xenion.xend.saver import Saver
from xenion.xend.scheduling.scheduler import Scheduler
from xenion.xend.settings import Settings
from xenion.xend.starter import Starter
from xenion.xend.supervisor import Supervisor
from xenion.xend.tasks import Tasks
from xenion.xend.xenstored import Xenstored

DEFAULTS = Settings()


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
    attaching: Attaching
    devices: Devices
    saver: Saver
    restorer: Restorer
    networks: Networks
    xenstored: Xenstored
    scheduler: Scheduler
    outgoing: Outgoing
    decided: Decided
    listening: Listening
    started_at: float = field(default_factory=time.time)


def make_services(
    where: Folders, chosen: Settings = DEFAULTS, xenstored: Xenstored | None = None
) -> Services:
    """With everything that an earlier xend has left. OSError, EventLogError."""
    xenstored = xenstored or Xenstored(where)
    log = EventLog.open(where.state)
    registry, tasks, outcomes = Registry(where), Tasks(), Outcomes(where.run)
    ring = MessageRing(where.state / "hypervisor.log")
    chronicle, renaming = Chronicle(log, ring), Renaming(registry)
    networks = Networks(where.run, chosen.networks, chosen.user_network)
    devices = Devices(where, registry, networks)
    attaching = Attaching(devices)
    mending = Mending(devices, attaching)
    scheduler = Scheduler(where.run)
    errands = Errands(registry, chronicle, outcomes, renaming, devices, mending, xenstored, scheduler)
    supervisor = Supervisor(registry, chronicle, outcomes, renaming, errands)
    starter = Starter(registry, supervisor, outcomes, devices, xenstored)
    attaching.look_after = supervisor.look_after
    connector = Connector(chosen.migration)
    decided = Decided(connector, registry, chronicle, Departures(where.state))
    starter.check_start = decided.check_start
    errands.moved = decided.gone
    decided.look_after = supervisor.look_after
    incoming = Incoming(registry, starter, devices, errands, Arrivals(where.state), decided, log)
    errands.never_ran = incoming.forget
    incoming.look_after = supervisor.look_after
    errands.take_on(ARRIVE, incoming.arrive)
    errands.take_on(LEAVE, decided.ask)
    errands.restart = starter.start
    xenstored.on_restart = supervisor.connect_to_store
    return Services(
        where, registry, supervisor, errands, renaming, starter, tasks, log, ring, outcomes, attaching, devices,
        Saver(devices, attaching), Restorer(registry, starter, devices), networks, xenstored, scheduler,
        Outgoing(connector, decided), decided, Listening(chosen.migration, incoming),
    )  # fmt: skip
