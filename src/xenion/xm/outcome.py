"""What became of a domain: waited for, and told in one sentence."""

import os
import threading
from typing import Any

from xenion.api.client import Client
from xenion.api.errors import ApiError, UnreachableError
from xenion.api.folders import Folders
from xenion.xm.output import complain

WAIT_S, WATCH_S, AGAIN_S = 30, 60, 1.0
PROCESS_LOG = "process.log"
WELL = frozenset({"poweroff", "reboot"})
SAVED, MIGRATED = "saved", "migrated"
ENDINGS = {
    "crash": "crashed",
    "watchdog": "was ended by its own watchdog",
    "suspend": "suspended itself, and nothing can resume it yet",
    "destroyed": "was destroyed",
    SAVED: "was saved: `xm restore` lets it go on",
    MIGRATED: "has moved to another host",
}


def await_outcome(client: Client, uuid: str) -> Any:
    """Returns when it is over. ApiError, UnreachableError."""
    while True:
        outcome = client.call("outcome", uuid=uuid, query={"wait": WAIT_S})
        if outcome["over"]:
            return outcome


class Watch:
    """Follows a domain from a thread; `fd` becomes readable when it is over. A xend that dies is asked again."""

    def __init__(self, where: Folders, uuid: str) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._client = Client(where)
        self._uuid = uuid
        self._stopped = threading.Event()
        self._open = threading.Lock()
        """Held while `fd` is used or closed."""
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        try:
            while not self._stopped.is_set() and not self._is_over():
                pass
            with self._open:
                if not self._stopped.is_set():
                    os.eventfd_write(self.fd, 1)
        finally:
            self._client.close()

    def _is_over(self) -> bool:
        try:
            return bool(self._client.call("outcome", uuid=self._uuid, query={"wait": WATCH_S})["over"])
        except UnreachableError:
            self._stopped.wait(AGAIN_S)
            return False
        except ApiError:  # forgotten already
            return True

    def close(self) -> None:
        """The thread ends when its call is answered."""
        with self._open:
            self._stopped.set()
            os.close(self.fd)


def tell(outcome: Any, domain: Any) -> int:
    """Prints what happened; the exit status."""
    for note in outcome["notes"]:
        complain(note)
    sentence = sentence_of(outcome, domain)
    if sentence:
        complain(sentence)
    return 0 if outcome["reason"] in {*WELL, SAVED, MIGRATED} else 1


def sentence_of(outcome: Any, domain: Any) -> str:
    """Nothing when the guest ended as it should and is gone."""
    reason, name = outcome["reason"], domain["name"]
    kept = outcome["action"] == "preserve"
    if reason in WELL:
        return f'the domain has stopped and is preserved: "xm destroy {name}" ends it' if kept else ""
    if reason == "died":
        status = f" ({outcome['status']})" if outcome["status"] else ""
        log = f"{domain['folder']}/{PROCESS_LOG}"
        hint = f"; see {log}" if os.path.exists(log) else ""  # noqa: PTH110  it has said nothing if it is gone
        return f"the domain's process ended unexpectedly{status} and the guest with it{hint}"
    parts = [f"the domain {ENDINGS.get(reason, f'ended ({reason})')}"]
    if outcome["report"]:
        parts.append(f"the report is in {outcome['report']}")
    if outcome["core"]:
        parts.append(f"the core is in {outcome['core']}")
    if kept:
        parts.append(f'it is preserved until "xm destroy {name}"')
    return "; ".join(parts)
