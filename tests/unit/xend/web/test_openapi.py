import json
import re
import subprocess
import sys
from typing import Any

import jsonschema_rs
import pytest

from tests.unit.xend.web.kit import Serving, sample
from xenion.api.actions import ACTIONS, Action
from xenion.api.errors import STATUSES
from xenion.xend.web.openapi import REFUSALS, document


def operation(action: Action) -> Any:
    return document()["paths"][action.path][action.method.lower()]


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
def test_each_action_is_described(action: Action) -> None:
    found = operation(action)
    assert found["operationId"] == action.name
    assert found["summary"] == action.summary
    names = {p["name"] for p in found.get("parameters", []) if p["in"] == "path"}
    assert names == set(re.findall(r"{(\w+)}", action.path))
    assert ("requestBody" in found) == (action.body is not None)


@pytest.mark.parametrize(
    "action", [action for action in ACTIONS if action.kind == "json"], ids=lambda action: action.name
)
def test_answers_fit_their_schema(action: Action) -> None:
    content = operation(action)["responses"][str(action.status)]["content"]
    schema = {**content["application/json"]["schema"], "components": document()["components"]}
    validator = jsonschema_rs.Draft202012Validator(schema)
    assert validator.is_valid(sample(action.result))
    assert not validator.is_valid([])


def test_a_body_is_needed_where_it_has_a_needed_field() -> None:
    needed = {a.name: operation(a)["requestBody"]["required"] for a in ACTIONS if a.body}
    assert needed["create"]
    assert needed["rename"]
    assert not needed["start"]
    assert not needed["dump"]


def test_texts_of_the_types_are_in_it() -> None:
    schemas = document()["components"]["schemas"]
    assert schemas["Task"]["description"].startswith("A long operation.")
    assert schemas["CreateRequest"]["properties"]["request"]["description"].startswith(
        "A word of the client's"
    )
    parameters = {p["name"]: p for p in document()["paths"]["/v1/tasks/{task}"]["get"]["parameters"]}
    assert parameters["wait"]["description"].startswith("Answer when it is over")


def test_each_refusal_has_a_status_that_is_described() -> None:
    assert set(STATUSES.values()) <= set(REFUSALS)


def test_references_lead_somewhere() -> None:
    text = json.dumps(document())
    for reference in set(re.findall(r'"\$ref": "#/components/(\w+)/(\w+)"', text)):
        assert reference[1] in document()["components"][reference[0]]


def test_it_is_printed_and_served_the_same_each_time(serving: Serving) -> None:
    printed = [
        subprocess.run(
            [sys.executable, "-m", "xenion.xend.web.openapi"],
            capture_output=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]
    assert printed[0] == printed[1]
    assert json.loads(printed[0]) == serving.ask("GET", "/v1/openapi.json").value
