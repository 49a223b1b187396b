"""sched.h: scheduler operations and shutdown reasons."""

from ctypes import LittleEndianStructure

from xenion.abi.layout import S32, U16, U32, U64, layout

SCHEDOP_yield = 0
SCHEDOP_block = 1
SCHEDOP_shutdown = 2
SCHEDOP_poll = 3
SCHEDOP_remote_shutdown = 4
SCHEDOP_shutdown_code = 5
SCHEDOP_watchdog = 6
SCHEDOP_pin_override = 7

SHUTDOWN_poweroff = 0
SHUTDOWN_reboot = 1
SHUTDOWN_suspend = 2
SHUTDOWN_crash = 3
SHUTDOWN_watchdog = 4
SHUTDOWN_soft_reset = 5
SHUTDOWN_MAX = 5


@layout(4)
class SchedShutdown(LittleEndianStructure):
    """sched.h: ``struct sched_shutdown``; ``reason`` is SHUTDOWN_*."""

    reason: U32


@layout(24)
class SchedPoll(LittleEndianStructure):
    """sched.h: ``struct sched_poll``; ``timeout`` is absolute system time in ns, 0 for none."""

    ports: U64
    nr_ports: U32
    timeout: U64


@layout(8)
class SchedRemoteShutdown(LittleEndianStructure):
    """sched.h: ``struct sched_remote_shutdown``."""

    domain_id: U16
    reason: U32


@layout(8)
class SchedWatchdog(LittleEndianStructure):
    """sched.h: ``struct sched_watchdog``; ``timeout`` in seconds, ``id`` 0 makes a new one."""

    id: U32
    timeout: U32


@layout(4)
class SchedPinOverride(LittleEndianStructure):
    """sched.h: ``struct sched_pin_override``; a negative ``pcpu`` undoes it."""

    pcpu: S32
