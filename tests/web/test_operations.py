"""Health, metrics and the API's own document."""

from typing import Any

import pytest

from app import __version__
from app.model import Snapshot
from tests.builders import snapshot
from tests.lab.packages import require
from tests.lab.process import run
from tests.web.site import Site, town


def test_healthy_and_ready_are_said_as_prometheus_says_them() -> None:
    site = Site(Snapshot(""))
    healthy, ready = site.ask("/-/healthy"), site.ask("/-/ready")
    assert (healthy.status_code, healthy.text) == (200, "kamal-sd is healthy.\n")
    assert (ready.status_code, ready.text) == (503, "kamal-sd waits for its first list.\n")
    site.state.publish(snapshot())
    ready = site.ask("/-/ready")
    assert (ready.status_code, ready.text) == (200, "kamal-sd is ready.\n")
    for answer in (healthy, ready):
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/docs/oauth2-redirect", "/nothing"])
def test_there_are_no_pages_that_load_from_the_net(path: str) -> None:
    assert town().ask(path).status_code == 404


@pytest.mark.real
def test_promtool_finds_nothing_amiss_with_the_metrics() -> None:
    require("prometheus")
    answer = town().ask("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    # It exits with 3 where a name or a type is not as it should be.
    assert run(["promtool", "check", "metrics"], data=answer.content) == ""


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    answer = town().ask("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = answer.json()
    return found


def test_the_document_is_of_this_version(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.")
    assert document["info"]["title"] == "kamal-sd"
    assert document["info"]["version"] == __version__


def test_the_document_has_every_path_that_answers(document: dict[str, Any]) -> None:
    paths = document["paths"]
    assert set(paths) == {
        *("/targets", "/explain", "/events", "/wait", "/scrape/{target}", "/metrics"),
        *("/-/healthy", "/-/ready", "/-/reload"),
    }
    found = []
    for path, operations in paths.items():
        ((method, operation),) = operations.items()
        assert method == ("post" if path == "/-/reload" else "get")
        assert operation["summary"]
        assert operation["responses"]["200"]["content"], path
        found.append(operation)
    identities = [each["operationId"] for each in found]
    assert len(set(identities)) == len(identities)


def test_targets_is_documented_as_it_answers(document: dict[str, Any]) -> None:
    targets = document["paths"]["/targets"]["get"]
    assert set(targets["responses"]) == {"200", "304", "400", "503"}
    parameters = {each["name"]: each for each in targets["parameters"]}
    assert set(parameters) == {
        *("service", "role", "destination", "host", "address", "generations")
    }
    assert all(each["in"] == "query" and not each["required"] for each in parameters.values())
    for name in ("service", "role", "destination", "host"):
        assert parameters[name]["schema"]["type"] == "array"
    assert set(targets["responses"]["200"]["content"]) == {"application/json"}
    groups = targets["responses"]["200"]["content"]["application/json"]["schema"]
    assert_fits(town().ask("/targets").json(), groups, document)


def test_explain_is_documented_as_it_answers(document: dict[str, Any]) -> None:
    answers = document["paths"]["/explain"]["get"]["responses"]
    assert set(answers) == {"200", "400", "503"}
    schema = answers["200"]["content"]["application/json"]["schema"]
    assert_fits(town().ask("/explain").json(), schema, document)


@pytest.mark.parametrize("path", ["/metrics", "/-/healthy", "/-/ready"])
def test_the_kinds_of_answers_are_documented(document: dict[str, Any], path: str) -> None:
    (documented,) = document["paths"][path]["get"]["responses"]["200"]["content"]
    assert town().ask(path).headers["content-type"].partition(";")[0] == documented


def assert_fits(value: Any, schema: dict[str, Any], document: dict[str, Any]) -> None:
    """Checks a value against as much of JSON Schema as FastAPI writes for these answers."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/components/schemas/")
        schema = document["components"]["schemas"][name]
    if "anyOf" in schema:
        kinds = {each["type"]: each for each in schema["anyOf"]}
        schema = kinds["null" if value is None else next(kind for kind in kinds if kind != "null")]
    match schema["type"]:
        case "array":
            assert isinstance(value, list)
            for each in value:
                assert_fits(each, schema["items"], document)
        case "object":
            properties = schema.get("properties", {})
            assert set(schema.get("required", ())) <= set(value)
            for key, each in value.items():
                assert_fits(each, properties.get(key) or schema["additionalProperties"], document)
        case "number":
            assert isinstance(value, int | float)
        case kind:
            types = {"string": str, "integer": int, "boolean": bool, "null": type(None)}
            assert type(value) is types[kind], (value, kind)
