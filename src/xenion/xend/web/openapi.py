"""The OpenAPI 3.1 document of the API, made from the typed list of actions; run as a program it prints it."""

import json
import re
from functools import cache
from typing import Any, TypedDict

from xenion.api import types as t
from xenion.api.actions import ACTIONS, OPENAPI_PATH, PREFIX, Action
from xenion.api.errors import STATUSES
from xenion.api.reference import PARAMETERS, docstrings
from xenion.xend.web.requests import LONGEST_NAME, NAME
from xenion.xend.web.schema import REF, components, field_schemas

JSON = "application/json"
EVENTS = "text/event-stream"
DESCRIPTION = (
    "xend serves this API on a Unix socket, where whoever may open it needs no token, and, when it is configured, "
    "over TLS, where every request carries the token. Times are seconds since the epoch, memory is MiB, durations "
    "are seconds. A change that takes long answers with a task, which can be followed and cancelled."
)
REFUSALS = {
    400: "The request is malformed, or the configuration is",
    401: "The token is missing or wrong",
    403: "This user or origin may not use the API",
    404: "There is no such thing",
    405: "The path has no such method; Allow names those it has",
    408: "The request did not arrive in time",
    409: "What is asked for cannot be done as things are",
    413: "The body is too large",
    415: "The body is not sent as JSON",
    426: "The path is a WebSocket's",
    429: "Too many clients are connected",
    431: "The request's head is too large",
    500: "Something of the host's or of xend's broke",
}


class Error(TypedDict):
    """A refusal."""

    error: t.Failure


class Index(TypedDict):
    """What answers here."""

    name: str
    version: str
    openapi: str


@cache
def document() -> dict[str, Any]:
    """The same for the same list of actions, whatever runs."""
    paths = {"/": {"get": _index("root")}, PREFIX: {"get": _index("index")}, OPENAPI_PATH: {"get": _itself()}}
    for action in ACTIONS:
        paths.setdefault(action.path, {})[action.method.lower()] = _action(action)
    return {
        "openapi": "3.1.0",
        "info": {"title": "xend", "version": PREFIX.strip("/v"), "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": _described(_schemas()),
            "responses": {str(status): _answer(text, _ref(Error)) for status, text in REFUSALS.items()},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "Over TLS only."}
            },
        },
    }


def _schemas() -> dict[str, Any]:
    bodies = {action.body for action in ACTIONS if action.body}
    results = {action.result for action in ACTIONS} | {Error, Index}
    found = components(sorted(bodies, key=_name), sorted(results, key=_name))
    found["Failure"]["properties"]["code"] = {"enum": sorted(STATUSES)}
    return found


def _name(kind: Any) -> str:
    name: str = kind.__name__
    return name


def _ref(kind: Any) -> dict[str, str]:
    return {"$ref": REF.format(name=_name(kind))}


# --- operations


def _index(name: str) -> dict[str, Any]:
    return _operation(name, "What answers here", {"200": _answer("xend", _ref(Index))})


def _itself() -> dict[str, Any]:
    return _operation("openapi", "This document", {"200": _answer("OpenAPI 3.1", {"type": "object"})})


def _operation(name: str, summary: str, responses: dict[str, Any], **more: Any) -> dict[str, Any]:
    refusals = {str(status): {"$ref": f"#/components/responses/{status}"} for status in REFUSALS}
    del refusals["426"]
    return {"operationId": name, "summary": summary, **more, "responses": {**responses, **refusals}}


def _action(action: Action) -> dict[str, Any]:
    more: dict[str, Any] = {}
    if parameters := _parameters(action):
        more["parameters"] = parameters
    if action.body:
        more["requestBody"] = {
            "required": bool(action.body.__required_keys__),
            "content": {JSON: {"schema": _ref(action.body)}},
        }
    return _operation(action.name, action.summary, _responses(action), **more)


def _responses(action: Action) -> dict[str, Any]:
    if action.kind == "websocket":
        return {
            "101": {
                "description": "A WebSocket: one text message {first, lost}, then binary messages both ways"
            },
            "426": {"$ref": "#/components/responses/426"},
        }
    if action.kind == "events":
        text = (
            "Server-sent events: each has the entry's number as its id and the entry, a LogEntry, as its data"
        )
        return {"200": {"description": text, "content": {EVENTS: {}}}}
    return {str(action.status): _answer(_name(action.result), _ref(action.result))}


def _answer(description: str, schema: Any) -> dict[str, Any]:
    return {"description": description, "content": {JSON: {"schema": schema}}}


def _parameters(action: Action) -> list[dict[str, Any]]:
    found = [_path_parameter(name) for name in re.findall(r"{(\w+)}", action.path)]
    if action.query:
        for name, schema in field_schemas(action.query).items():
            said = docstrings()[_name(action.query)].get(name)
            described = {"description": said} if said else {}
            found.append({"name": name, "in": "query", "required": False, **described, "schema": schema})
    if action.kind == "events":
        said = "The number of the last entry seen: as `since`"
        schema = {"type": "integer", "minimum": 0, "maximum": 1 << 53}
        found.append({"name": "Last-Event-ID", "in": "header", "description": said, "schema": schema})
    return found


def _path_parameter(name: str) -> dict[str, Any]:
    description = PARAMETERS[name][0].upper() + PARAMETERS[name][1:]
    schema = {"type": "string", "minLength": 1, "maxLength": LONGEST_NAME, "pattern": f"^{NAME}$"}
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


# --- texts


def _described(schemas: dict[str, Any]) -> dict[str, Any]:
    for name, schema in schemas.items():
        schema.pop("title", None)
        texts = docstrings().get(name, {})
        if texts.get(""):
            schema["description"] = texts[""]
        for field, property_ in schema.get("properties", {}).items():
            if field in texts:
                property_["description"] = texts[field]
    return schemas


if __name__ == "__main__":
    print(json.dumps(document(), indent=1, ensure_ascii=False))
