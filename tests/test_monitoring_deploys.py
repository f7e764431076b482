"""Every question of the shipped dashboard and alerts, asked of a real Prometheus after a deploy."""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from tests import monitoring
from tests.lab import image
from tests.lab.engine import Engine
from tests.lab.prometheus import Prometheus, http_sd_job
from tests.lab.sd import Server
from tests.lab.world import World

pytestmark = pytest.mark.real

ROLES: Final = ("web", "job")
STEP: Final = 3
# As Grafana fills them in, with all of the hosts and services chosen.
VALUES: Final = {
    "job": "kamal-sd",
    "host": ".*",
    "service": ".*",
    "__interval": f"{STEP}s",
    "__rate_interval": "10s",
}


class Deployed(NamedTuple):
    """A Prometheus that has seen a deploy of every role, from its begin on."""

    prometheus: Prometheus
    began: float

    def series(self, expression: str) -> list[dict[str, Any]]:
        """The answer over all of that time."""
        return self.prometheus.query_range(expression, self.began, time.time(), STEP)


def start(engine: Engine, version: str, role: str) -> str:
    """A container as Kamal starts it; its id."""
    labels = {"service": "shop", "role": role, "destination": "", "prometheus.port": "9394"}
    return engine.docker(
        *("run", "--detach", "--network=kamal", f"--name=shop-{role}-{version}"),
        *(f"--label={name}={value}" for name, value in labels.items()),
        *(f"watched:{version}", "/bin/app", role),
    ).strip()


def configuration(folder: Path, server: Server) -> str:
    """A Prometheus' configuration, in a hurry, with the shipped rules."""
    itself = {"targets": [server.url.removeprefix("http://")]}
    hurry = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    rules = folder / "alerts.yml"
    rules.write_text(monitoring.RULES.read_text())
    return json.dumps(
        {
            "global": hurry,
            "rule_files": [str(rules)],
            "scrape_configs": [
                http_sd_job(f"{server.url}/targets"),
                {"job_name": "kamal-sd", "honor_labels": True, "static_configs": [itself]},
            ],
        }
    )


@pytest.fixture(scope="module")
def deployed(world: World) -> Iterator[Deployed]:
    engine = world.engine
    engine.remove_containers()
    for version in ("v1", "v2"):
        image.build(engine, f"watched:{version}", version, drain=1)
    if not engine.docker("network", "ls", "-q", "--filter", "name=^kamal$"):
        engine.docker("network", "create", "kamal")
    with ExitStack() as stack:
        stack.callback(engine.remove_containers)
        old = [start(engine, "v1", role) for role in ROLES]
        server = stack.enter_context(Server(world.folder("sd"), engine.url))
        folder = world.folder("prometheus")
        text = configuration(folder, server)
        prometheus = stack.enter_context(Prometheus(folder, text=text))
        began = time.time()

        def has(expression: str, number: int) -> Callable[[], bool]:
            return lambda: len(prometheus.query(expression)) == number

        prometheus.wait_until(has('up{job="kamal"} == 1', len(ROLES)))
        prometheus.wait_until(has('kamal_sd_slot_info{version="v1"}', len(ROLES)))
        # The annotation compares with what was there a step before.
        time.sleep(STEP)
        for role in ROLES:
            start(engine, "v2", role)
        prometheus.wait_until(has('kamal_sd_decisions{reason="candidate"} == 2', 1))
        engine.docker("stop", "--time=10", *old)
        prometheus.wait_until(has('kamal_sd_slot_info{version="v2"}', len(ROLES)))
        time.sleep(STEP)
        yield Deployed(prometheus, began)


@pytest.mark.parametrize("query", monitoring.panel_queries(), ids=lambda query: query.title)
def test_each_panel_has_data(deployed: Deployed, query: monitoring.Query) -> None:
    expression = query.asked(VALUES)
    if query.is_instant:
        found = deployed.prometheus.query(expression)
        values = [each["value"] for each in found]
    else:
        found = deployed.series(expression)
        values = [value for each in found for value in each["values"]]
    assert any(value != "NaN" for _, value in values)


def test_each_deploy_is_marked_once_with_its_version(deployed: Deployed) -> None:
    """And what stood there at the beginning is no deploy."""
    marks = deployed.series(monitoring.deploys().asked(VALUES))
    assert sorted(
        (each["metric"]["role"], each["metric"]["version"], len(each["values"])) for each in marks
    ) == [("job", "v2", 1), ("web", "v2", 1)]


def test_the_table_says_what_is_current(deployed: Deployed) -> None:
    [table] = [each for each in monitoring.panel_queries() if each.title == "What is current"]
    rows = [each["metric"] for each in deployed.prometheus.query(table.asked(VALUES))]
    assert sorted((row["role"], row["container"], row["image"]) for row in rows) == [
        ("job", "shop-job-v2", "watched:v2"),
        ("web", "shop-web-v2", "watched:v2"),
    ]


def test_the_variables_have_choices(deployed: Deployed) -> None:
    found = {}
    for name, variable in monitoring.variables().items():
        if variable["type"] == "query":
            [(series, label)] = re.findall(r"label_values\((.*), (\w+)\)", variable["definition"])
            asked = monitoring.Query(name, series, is_instant=True).asked(VALUES)
            found[name] = {each.get(label, "") for each in deployed.prometheus.series(asked)}
    # The only engine has no name.
    assert found == {"job": {"kamal-sd"}, "host": {""}, "service": {"shop"}}


@pytest.mark.parametrize("rule", monitoring.alerts(), ids=lambda rule: rule["alert"])
def test_what_each_alert_asks_for_is_there(deployed: Deployed, rule: dict[str, Any]) -> None:
    deployed.prometheus.query(rule["expr"])
    for selector in monitoring.selectors(rule["expr"]):
        assert deployed.prometheus.query(f"last_over_time({selector}[10m])"), selector


def test_a_deploy_leaves_no_alert_behind(deployed: Deployed) -> None:
    """How long one has to last before it fires is promtool's to test."""
    rules = deployed.prometheus.rules()
    assert {rule["name"] for rule in rules} == {rule["alert"] for rule in monitoring.alerts()}
    assert {(rule["health"], rule["state"]) for rule in rules} == {("ok", "inactive")}
