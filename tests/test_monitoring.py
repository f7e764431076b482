"""The shipped alerts and dashboard, and their page: complete, and about metrics that exist."""

import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from app.metrics import Metrics, RelayResult
from app.state import State
from tests import monitoring
from tests.builders import NOW, WEB, container, settings, snapshot
from tests.lab.packages import require
from tests.lab.process import run
from tests.lab.sd import REPOSITORY

TEXTS = [
    *(REPOSITORY / "docs").glob("*.md"),
    *(each for each in (REPOSITORY / "deploy").rglob("*") if each.is_file()),
    REPOSITORY / "README.md",
    monitoring.RULE_TESTS,
]
# Plugins that come with Grafana.
CORE = {"stat", "table", "timeseries"}
GRAFANA = {"__interval", "__rate_interval"}


def exposed() -> set[str]:
    """The names of all metrics and samples that a server can have."""
    metrics = Metrics(State([snapshot(container())], settings(), clock=lambda: NOW))
    metrics.relay.observe(WEB, RelayResult.OK, 0.1, 100)
    metrics.requests.observe("/targets", 200, 0.1)
    families = list(text_string_to_metric_families(metrics.text().decode()))
    samples = {sample.name for family in families for sample in family.samples}
    return samples | {family.name for family in families}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_each_metric_that_is_named_exists(path: Path) -> None:
    named = set(re.findall(r"\bkamal_sd_\w+", path.read_text(errors="replace")))
    assert named <= exposed()


class TestDashboard:
    def test_it_is_imported_as_it_is(self) -> None:
        assert monitoring.DASHBOARD["schemaVersion"] == 41
        assert "id" not in monitoring.DASHBOARD
        assert "__inputs" not in monitoring.DASHBOARD

    def test_each_panel_is_a_core_one_with_a_title_and_a_description(self) -> None:
        panels = monitoring.DASHBOARD["panels"]
        assert {panel["type"] for panel in panels} <= CORE
        assert all(panel["title"] and panel["description"].endswith(".") for panel in panels)
        assert len({panel["title"] for panel in panels}) == len(panels)
        assert len({panel["id"] for panel in panels}) == len(panels)

    def test_no_panel_lies_on_another_one_or_beside_the_grid(self) -> None:
        places = [panel["gridPos"] for panel in monitoring.DASHBOARD["panels"]]
        assert all(0 <= place["x"] < place["x"] + place["w"] <= 24 for place in places)
        for one, other in combinations(places, 2):
            beside = _apart(one, other, "x", "w") or _apart(one, other, "y", "h")
            assert beside, f"{one} and {other} overlap"

    def test_everything_asks_the_chosen_data_source(self) -> None:
        assert monitoring.variables()["datasource"]["query"] == "prometheus"
        annotation = monitoring.DASHBOARD["annotations"]["list"][-1]
        asking = [*monitoring.DASHBOARD["panels"], annotation]
        asking += [each for each in monitoring.variables().values() if each["type"] == "query"]
        asking += [each for panel in monitoring.DASHBOARD["panels"] for each in panel["targets"]]
        chosen = {"type": "prometheus", "uid": "${datasource}"}
        assert [each["datasource"] for each in asking] == [chosen] * len(asking)

    def test_the_variables_are_known_and_each_is_used(self) -> None:
        queries = [*monitoring.panel_queries(), monitoring.deploys()]
        used = {name for each in queries for name in re.findall(r"\$(\w+)", each.expression)}
        assert used - GRAFANA == monitoring.variables().keys() - {"datasource"}

    def test_an_engine_without_a_host_name_is_among_all(self) -> None:
        """To Prometheus an empty label is none, and `.+`, Grafana's own choice, is not empty."""
        assert monitoring.variables()["host"]["allValue"] == ".*"


def _apart(one: dict[str, int], other: dict[str, int], start: str, size: str) -> bool:
    return one[start] + one[size] <= other[start] or other[start] + other[size] <= one[start]


class TestAlerts:
    def test_each_has_a_severity_and_says_what_it_is_about(self) -> None:
        for rule in monitoring.alerts():
            assert rule["labels"].keys() == {"severity"}
            assert rule["labels"]["severity"] in ("critical", "warning")
            assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}

    def test_each_has_its_place_on_the_page_with_its_severity(self) -> None:
        text = monitoring.PAGE.read_text()
        found = re.findall(r"^## (\w+)\n\n\*\*(\w+),", text, flags=re.MULTILINE)
        rules = monitoring.alerts()
        assert found == [(rule["alert"], rule["labels"]["severity"].capitalize()) for rule in rules]
        page = monitoring.PAGE.relative_to(REPOSITORY)
        for rule in rules:
            assert rule["annotations"]["runbook_url"] == f"{page}#{rule['alert'].lower()}"

    def test_the_page_says_after_how_long(self) -> None:
        text = monitoring.PAGE.read_text()
        for rule in monitoring.alerts():
            minutes = int(rule["for"].removesuffix("m"))
            words = "a minute" if minutes == 1 else f"{minutes} minutes"
            section = text.partition(f"## {rule['alert']}\n")[2].partition("\n## ")[0]
            assert f"after {words}" in section or "older than 10 minutes" in section

    def test_each_is_seen_to_fire(self) -> None:
        groups: list[dict[str, Any]] = yaml.safe_load(monitoring.RULE_TESTS.read_text())["tests"]
        fired = [
            each["alertname"]
            for group in groups
            for each in group.get("alert_rule_test", ())
            if each["exp_alerts"]
        ]
        assert fired == [rule["alert"] for rule in monitoring.alerts()]

    @pytest.mark.real
    def test_they_fire_when_they_shall_and_not_otherwise(self) -> None:
        require("prometheus")
        assert "SUCCESS" in run(["promtool", "check", "rules", monitoring.RULES])
        run(["promtool", "test", "rules", monitoring.RULE_TESTS])
