"""What to add to a deploy.yml so that Prometheus finds its roles: pure texts."""

import re
from collections.abc import Iterator

from app.deployfile.lint import label, labels_to_add
from app.deployfile.roles import App

_JOB = """\
scrape_configs:
  - job_name: kamal
    http_sd_configs:
{urls}
  - job_name: kamal-sd
    honor_labels: true
    static_configs:
      - targets: [{targets}]
"""


def hosts(app: App) -> list[str]:
    """Every host on which a role runs, in order."""
    return sorted({host for role in app.roles for host in role.hosts})


def labels(app: App) -> str:
    """The labels for the roles that lack a metrics port; empty where none does."""
    lines = [
        f"  {line}"
        for role in app.roles
        if label(role, "port") is None and label(role, "scrape") is None
        for line in labels_to_add(role)
    ]
    return "\n".join(["servers:", *lines, ""]) if lines else ""


def accessory(app: App, one: str, several: str) -> str:
    """The accessory: of the two templates the one that fits the hosts, with the app's own in it."""
    where = hosts(app)
    if len(where) > 1:
        roles = ", ".join(role.name for role in app.roles)
        return re.sub(
            r"(?m)^    # Or `roles.*\n    hosts:\n(?:      - .*\n)+",
            f"    roles: [{roles}]\n",
            several,
        )
    text = one.replace("shop", app.service) if app.service else one
    return text.replace("192.0.2.10", where[0]) if where else text


def job(app: App) -> str:
    """The Prometheus job: at the accessory's name, or at each of several hosts."""
    where = hosts(app)
    places = list(where) if len(where) > 1 else [f"{app.service or 'shop'}-kamal-sd"]
    urls = "\n".join(_lines(places))
    return _JOB.format(urls=urls, targets=", ".join(f'"{place}:9889"' for place in places))


def _lines(places: list[str]) -> Iterator[str]:
    for place in places:
        yield f"      - url: http://{place}:9889/targets"
        yield "        refresh_interval: 15s"
