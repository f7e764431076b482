"""The shipped alerts, dashboard and their page, as tests read them."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import yaml

from tests.lab.sd import REPOSITORY

Json = dict[str, Any]

RULES: Final = REPOSITORY / "deploy/prometheus/alerts.yml"
RULE_TESTS: Final = REPOSITORY / "tests/alerts_test.yml"
PAGE: Final = REPOSITORY / "docs/alerts.md"
DASHBOARD: Final[Json] = json.loads((REPOSITORY / "deploy/grafana/kamal-sd.json").read_text())


class Query(NamedTuple):
    """One question of the dashboard to Prometheus."""

    title: str
    expression: str
    is_instant: bool

    def asked(self, values: Mapping[str, str]) -> str:
        """The expression with values in place of Grafana's variables."""
        return re.sub(r"\$(\w+)", lambda found: values[found[1]], self.expression)


def alerts() -> list[Json]:
    """The rules, in their order."""
    document = yaml.safe_load(RULES.read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def panel_queries() -> list[Query]:
    """The queries of the panels."""
    return [
        Query(panel["title"], target["expr"], target["instant"])
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
    ]


def deploys() -> Query:
    """The query of the annotation that marks deploys."""
    [own] = [each for each in DASHBOARD["annotations"]["list"] if "target" in each]
    return Query(own["name"], own["target"]["expr"], is_instant=False)


def variables() -> dict[str, Json]:
    """Grafana's variables by their names."""
    return {each["name"]: each for each in DASHBOARD["templating"]["list"]}


def selectors(expression: str) -> Iterator[str]:
    """The selectors of a rule's expression, each with its matchers."""
    for found in re.finditer(r"\b(?:up|kamal_sd_\w+)\b(?:\{[^}]*\})?", expression):
        yield found[0]
