"""Every action that changes something enters the event log: who, what, of which domain, with what result, how long."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from xenion.api.actions import BY_NAME, Action
from xenion.api.errors import ApiError
from xenion.xend.call import Call, Handler, Handlers
from xenion.xend.eventlog import Ending, EventLog, EventLogError
from xenion.xend.managed import Managed
from xenion.xend.registry import Registry
from xenion.xend.tasks import RunningTask


def logged(handlers: Handlers, registry: Registry, log: EventLog) -> dict[str, Handler]:
    """The handlers of all actions, those that are logged wrapped."""
    return {
        name: _logged(BY_NAME[name], handler, registry, log) if BY_NAME[name].logged else handler
        for name, handler in handlers.items()
    }


def _logged(action: Action, handler: Handler, registry: Registry, log: EventLog) -> Handler:
    async def call_and_log(call: Call) -> Any:
        number = log.begin(call.peer.who, action.name, **_subject(call, registry), detail=_detail(call))
        try:
            answer = await handler(call)
        except ApiError as error:
            log.end(number, _ending(error), detail=error.message)
            await _synced(log)
            raise
        except BaseException:
            log.end(number, "failed", detail="it was broken off")
            raise
        if isinstance(answer, RunningTask):
            answer.ended.append(lambda task: _end(log, number, task))
            return answer.shown()
        log.end(number, "done")
        await _synced(log)
        return answer

    return call_and_log


async def _synced(log: EventLog) -> None:
    """A disk that fails does not undo what was done: the log says so itself, and keeps the entries."""
    with suppress(EventLogError):
        await log.sync()


def _ending(error: ApiError) -> Ending:
    return "failed" if error.code == "failed" else "refused"


async def _end(log: EventLog, number: int, task: RunningTask) -> None:
    """Before the task's end is told."""
    domain = task.result.get("domain")
    subject: dict[str, Any] = {}
    if isinstance(domain, Mapping):
        subject = {"domain": domain["name"], "domid": domain["domid"], "uuid": domain["uuid"]}
    if task.failure is None:
        log.end(number, "done", **subject)
    elif task.ending == "cancelled":
        log.end(number, "cancelled", **subject)
    else:
        log.end(number, _ending(task.failure), detail=task.failure.message, **subject)
    await _synced(log)


def _subject(call: Call, registry: Registry) -> dict[str, Any]:
    """The domain that the call is about, as far as it is known before it."""
    word = call.parameters.get("domain", "")
    if not word:
        return {"domain": str((call.body.get("config") or {}).get("name", ""))[:64]}
    try:
        found = registry.find(word)
    except ApiError:
        return {"domain": word[:64]}
    if isinstance(found, Managed):
        return {"domain": found.name, "uuid": found.uuid}
    return {"domain": found.name, "domid": found.domid, "uuid": found.uuid}


def _detail(call: Call) -> str:
    """What was asked for, short; configurations are told by what comes of them."""
    asked = {**call.body, **{key: value for key, value in call.parameters.items() if key != "domain"}}
    shown = {key: _short(value) for key, value in asked.items() if key not in ("config", "request")}
    return ", ".join(f"{key}={value}" for key, value in shown.items())


def _short(value: Any) -> Any:
    """A device by what is special about it."""
    if not isinstance(value, Mapping):
        return value
    return next((value[key] for key in ("vdev", "mac") if value.get(key)), "new")
