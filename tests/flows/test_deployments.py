"""prefect.yaml against what it may hold; Prefect itself passes over what it does not know."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import jsonschema
import pytest
import yaml
from prefect import Flow
from prefect.flows import load_flow_from_entrypoint

from tasks.code import ROOT

PROJECT = yaml.safe_load((ROOT / "prefect.yaml").read_text())
DEPLOYMENTS = {f"{deployment['entrypoint']}/{deployment['name']}": deployment for deployment in PROJECT["deployments"]}

WEIGHTS = ["runs/demo-cnn-0/0123456789ab/weights.safetensors"]
NO_DEFAULT: dict[str, dict[str, Any]] = {
    "flows.embed.embed": {"weights": WEIGHTS},
    "flows.evaluate.evaluate": {"weights": WEIGHTS},
    "flows.evaluate_classifier.evaluate_classifier": {"weights": WEIGHTS, "factory": "a.b:c", "classes": "wnids.txt"},
    "flows.export.export": {"weights": WEIGHTS[0], "to": "exported"},
    "flows.report.report": {"weights": WEIGHTS},
    "flows.retrieve.retrieve": {"image": ["photograph.jpg"], "weights": WEIGHTS[0]},
    "flows.submit.submit": {"weights": WEIGHTS},
    "flows.score.score": {"submission": "s.txt", "truth": "t.txt", "meta": "meta.mat"},
}
"""What whoever starts the run has to give."""


def closed(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


TEXT = {"type": "string", "minLength": 1}
SCHEDULE = closed(
    ["slug", "cron", "timezone", "active"],
    slug=TEXT,
    cron=TEXT,
    timezone=TEXT,
    active={"type": "boolean"},
    parameters={"type": "object"},
)
DEPLOYMENT = closed(
    ["name", "entrypoint", "description", "tags", "parameters", "work_pool"],
    name=TEXT,
    entrypoint={"type": "string", "pattern": r"^flows\.\w+\.\w+$"},
    description={"type": "string", "minLength": 30},
    tags={"type": "array", "items": TEXT, "minItems": 1},
    parameters={"type": "object"},
    work_pool=closed(["name"], name={"const": "alexnet"}),
    schedules={"type": "array", "items": SCHEDULE, "minItems": 1},
)
SCHEMA = closed(["name", "deployments"], name=TEXT, deployments={"type": "array", "items": DEPLOYMENT, "minItems": 1})


def check(project: dict[str, Any]) -> None:
    """Raise for what Prefect would pass over in silence."""
    jsonschema.validate(project, SCHEMA)
    for deployment in project["deployments"]:
        entrypoint = deployment["entrypoint"]
        flow = load_flow_from_entrypoint(entrypoint)
        given = {**NO_DEFAULT.get(entrypoint, {}), **deployment["parameters"]}
        for own in ({}, *(schedule.get("parameters", {}) for schedule in deployment.get("schedules", []))):
            flow.validate_parameters({**given, **own})


def all_flows() -> Iterator[str]:
    for file in sorted((ROOT / "flows").glob("[a-z]*.py")):
        module = import_module(f"flows.{file.stem}")
        yield from (
            f"{module.__name__}.{name}"
            for name, value in vars(module).items()
            if isinstance(value, Flow) and value.fn.__module__ == module.__name__
        )


def changed(**changes: Any) -> dict[str, Any]:
    """Return a project of one deployment, changed; a value of None drops its key."""
    good = DEPLOYMENTS["flows.reproduce.reproduce/demo"] | changes
    return {"name": "alexnet", "deployments": [{key: value for key, value in good.items() if value is not None}]}


def test_the_file_as_it_stands_is_good() -> None:
    check(PROJECT)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"name": "nightly"},
        {"schedules": [{"slug": "a", "cron": "0 * * * *", "timezone": "UTC", "active": True, "parameters": {"seed": 1}}]},
        {"schedules": [{"slug": "hourly", "cron": "0 * * * *", "timezone": "Europe/Vienna", "active": True}]},
        {"parameters": {}},
        {"parameters": {"preset": "tiny", "source": "/data/tiny-imagenet-200.zip", "epochs": 2}},
        {"entrypoint": "flows.shard.shard", "parameters": {"storage": "square128"}},
    ],
)
def test_a_good_deployment_passes(changes: dict[str, Any]) -> None:
    check(changed(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": []}, "'schedule' was unexpected"),
        ({"work_pool": {"name": "alexnet", "job_variable": {}}}, "'job_variable' was unexpected"),
        ({"work_pool": {"name": "default"}}, "'alexnet' was expected"),
        ({"schedules": [{"slug": "a", "cron": "0 3 * * *", "timezone": "UTC", "activ": False}]}, "'activ' was unexpected"),
        ({"schedules": [{"slug": "a", "cron": "0 3 * * *", "timezone": "UTC", "active": "no"}]}, "not of type 'boolean'"),
        (
            {"schedules": [{"slug": "a", "cron": "0 3 * * *", "timezone": "UTC", "active": True, "parameters": {"sed": 1}}]},
            "sed",
        ),
        ({"tags": None}, "'tags' is a required property"),
        ({"description": "Runs it."}, "too short"),
        ({"entrypoint": "flows/reproduce.py:reproduce"}, "does not match"),
        ({"entrypoint": "flows.reproduce.repoduce"}, "no attribute 'repoduce'|not found|repoduce"),
        ({"parameters": {"presets": "demo"}}, "presets"),
        ({"parameters": {"preset": "huge"}}, "preset"),
        ({"parameters": {"epochs": 0}}, "epochs"),
        ({"entrypoint": "flows.shard.shard", "parameters": {"epochs": 1}}, "epochs"),
        ({"entrypoint": "flows.shard.shard", "parameters": {"dataset": "ilsvrc2011"}}, "dataset"),
        ({"entrypoint": "flows.shard.shard", "parameters": {"storage": "square"}}, "storage"),
    ],
)
def test_a_bad_deployment_is_caught(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        check(changed(**changes))


def test_a_deployment_without_its_weights_asks_for_them() -> None:
    flow = load_flow_from_entrypoint("flows.evaluate.evaluate")
    with pytest.raises(Exception, match="weights"):
        flow.validate_parameters(DEPLOYMENTS["flows.evaluate.evaluate/demo"]["parameters"])


def test_every_flow_has_a_deployment() -> None:
    assert {deployment["entrypoint"] for deployment in PROJECT["deployments"]} == set(all_flows())


def test_no_deployment_takes_the_place_of_another() -> None:
    assert len(DEPLOYMENTS) == len(PROJECT["deployments"])


def test_the_schedules_are_there_and_asleep() -> None:
    schedules = {name: deployment["schedules"] for name, deployment in DEPLOYMENTS.items() if "schedules" in deployment}
    nightly = {"slug": "nightly", "cron": "0 3 * * *", "timezone": "UTC", "active": False}
    weekly = {"slug": "weekly-from-scratch", "cron": "0 5 * * 0", "timezone": "UTC", "active": False}
    collect = {"slug": "weekly", "cron": "0 7 * * 0", "timezone": "UTC", "active": False, "parameters": {"delete": True}}
    assert schedules == {
        "flows.retrain.retrain/folder": [nightly, {**weekly, "parameters": {"start": "scratch"}}],
        "flows.collect.collect/all": [collect],
    }
