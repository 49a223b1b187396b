"""The domain process: one a domain. Gets its descriptors, builds the machine, drops its rights, runs the guest.

Usage (by its parent only): python -m xenion.domain CONFIG_FD CONSOLE_FD CONTROL_FD STATE_FD
CONFIG_FD holds the configuration as JSON; CONSOLE_FD is a stream to whoever watches the console; events go to
CONTROL_FD (xenion.domain.protocol); STATE_FD is the domain's folder, where its console log and crash reports are.
"""

import gc
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

from xenion.builder import DomainBuildError, KernelImageError
from xenion.config.domain import Action, ConfigError, DomainConfig
from xenion.domain import sandbox
from xenion.domain.admission import AdmissionError, check_memory
from xenion.domain.machine import Files, Machine, open_files
from xenion.domain.protocol import Event
from xenion.domain.report import write_report
from xenion.processor import ProcessorError
from xenion.processor.choose import open_processor

RESTARTS = {Action.RESTART, Action.RENAME_RESTART, Action.COREDUMP_RESTART}
LOG_LIMIT = 16 << 20
LOG_FULL = b"\n[xenion: this log is full; what follows is not kept]\n"
TAIL_BYTES = 32768
SHORTEST_LIFE_SECONDS = 1.0
ABNORMAL = {"crash", "watchdog", "suspend"}
"""Ends that get a report and a failing exit status; nothing can resume a suspended guest yet."""

EXIT_REFUSED = 2


class RefusedError(Exception):
    """The domain cannot start; the message is for the user."""


class DomainProcess:
    """Everything that outlives one boot of the guest."""

    def __init__(self, config: DomainConfig, console_fd: int, control_fd: int, state_fd: int) -> None:
        self._config = config
        os.set_blocking(console_fd, False)
        self._console_fd = console_fd
        self._control_fd = control_fd
        self._log_fd = os.open(
            "console.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=state_fd
        )
        name = time.strftime("crash-%Y%m%d-%H%M%S.txt", time.gmtime())
        self._report_fd = os.open(
            name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=state_fd
        )
        self._report_path = Path(f"/proc/self/fd/{state_fd}").readlink() / name
        self._tail = b""
        self._logged = 0
        self._armed = False

    def tell(self, event: Event) -> None:
        """The parent may be gone: the domain goes on without it."""
        with suppress(OSError):
            os.write(self._control_fd, event.encode())

    def _log(self, data: bytes) -> None:
        """The console's log, up to its limit; a full disk is no reason to end the guest."""
        self._tail = (self._tail + data)[-TAIL_BYTES:]
        if self._logged > LOG_LIMIT:
            return
        self._logged += len(data)
        if self._logged > LOG_LIMIT:
            data += LOG_FULL
        with suppress(OSError):
            os.write(self._log_fd, data)

    def _machine(self, files: Files) -> Machine:
        processor = open_processor(self._config.processor)
        try:
            return Machine(self._config, files, processor, console_fd=self._console_fd, log=self._log)
        except KernelImageError as error:
            raise RefusedError(f"{self._config.kernel}: {error}") from error

    def _arm(self) -> None:
        sandbox.limit_resources()
        try:
            sandbox.arm()
        except sandbox.SandboxError as error:
            self.tell(Event("note", text=str(error)))
        self._armed = True

    def serve(self, files: Files) -> int:
        """Boots the guest until it ends for good; the exit status."""
        while True:
            started = time.monotonic()
            machine = self._machine(files)
            machine.log_error = lambda text: self.tell(Event("note", text=text))
            machine.prepare()
            self.tell(Event("running"))
            if not self._armed:
                self._arm()
            reason = machine.run()
            action = self._action(reason)
            report = self._report(machine) if reason in ABNORMAL else ""
            machine.close()
            del machine
            gc.collect()  # the old machine's memory goes before a new one comes
            if action in RESTARTS and time.monotonic() - started < SHORTEST_LIFE_SECONDS:
                self.tell(
                    Event("note", text="the guest ended within a second of its start and is not restarted")
                )
                action = Action.DESTROY
            self.tell(Event("ended", reason=reason, report=report, action=action))
            if action not in RESTARTS:
                os.close(self._report_fd)  # one that was not needed is empty, and the parent removes it
                return 1 if reason in ABNORMAL else 0

    def _action(self, reason: str) -> Action:
        config = self._config
        return {"poweroff": config.on_poweroff, "reboot": config.on_reboot}.get(reason, config.on_crash)

    def _report(self, machine: Machine) -> str:
        text = write_report(machine.domain, machine.boot_state, self._config.name, self._tail)
        os.ftruncate(self._report_fd, 0)
        os.pwrite(self._report_fd, text.encode(errors="replace"), 0)
        return str(self._report_path)


def _load(config: DomainConfig) -> Files:
    for key, path in (("kernel", config.kernel), ("ramdisk", config.ramdisk)):
        if path is not None and not path.is_file():
            raise RefusedError(
                f"{key} {path} {'is not a file' if path.exists() else 'does not exist'}: correct the path"
            )
    try:
        check_memory(config.memory_mib)
        return open_files(config)
    except OSError as error:
        raise RefusedError(f"{error.filename}: {error.strerror}") from error
    except AdmissionError as error:
        raise RefusedError(str(error)) from error


def _ignore_terminal() -> None:
    """Ctrl-C on the terminal is the guest's; the terminal going away is no reason to stop."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)


def main(argv: list[str]) -> int:
    config_fd, console_fd, control_fd, state_fd = map(int, argv[1:5])
    _ignore_terminal()
    try:
        with os.fdopen(config_fd, "rb") as file:
            config = DomainConfig.from_json(file.read())
        process = DomainProcess(config, console_fd, control_fd, state_fd)
        return process.serve(_load(config))
    except (RefusedError, ConfigError, DomainBuildError, ProcessorError) as error:
        os.write(control_fd, Event("refused", text=str(error)).encode())
        return EXIT_REFUSED
    except Exception:  # noqa: BLE001  the last line of defence: our bug becomes a sentence and a report for the user
        os.write(control_fd, Event("refused", text="a bug of Xenion's: " + traceback.format_exc()).encode())
        return EXIT_REFUSED


if __name__ == "__main__":
    sys.exit(main(sys.argv))
