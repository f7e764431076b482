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
# Where the templates have what depends on the hosts, each with the comment above it.
_HOST = re.compile(r"(?m)^(?:    # .*\n)*    host: .*\n")
_HOSTS = re.compile(r"(?m)^(?:    # .*\n)*    hosts:\n(?:      - .*\n)+")
_PORT = re.compile(r"(?m)^(?:    # .*\n)*    port: .*\n")


def hosts(app: App) -> list[str]:
    """Every host on which a role runs, in order."""
    return sorted({host for role in app.roles for host in role.hosts})


def labels(app: App) -> str:
    """The labels for the roles that lack a metrics port; empty where none does."""
    lines = [
        f"  {line}"
        for role in app.roles
        if label(role, "port") is None and label(role, "scrape") is None
        for line in labels_to_add(app, role)
    ]
    return "\n".join(["servers:", *lines, ""]) if lines else ""


def accessory(app: App, one: str, several: str) -> str:
    """The accessory: of the two templates the one that fits the hosts, with the app's own in it."""
    if len(hosts(app)) > 1:
        return _HOSTS.sub(lambda _: _roles(app), several)
    return _on_its_host(app, one)


def proxied(app: App, one: str, several: str) -> str:
    """The accessory with its socket proxy; on several hosts with the port of `several`."""
    if len(hosts(app)) > 1:
        port = _PORT.findall(several)[0]
        return _PORT.sub(lambda _: port, _HOST.sub(lambda _: _roles(app), one))
    return _on_its_host(app, one)


def _on_its_host(app: App, one: str) -> str:
    text = one.replace("shop", app.service) if app.service else one
    return text.replace("192.0.2.10", (hosts(app) or ["192.0.2.10"])[0])


def _roles(app: App) -> str:
    return f"    roles: [{', '.join(role.name for role in app.roles)}]\n"


def job(app: App) -> str:
    """The Prometheus job: at the accessory's name, or at each of several hosts."""
    where = hosts(app)
    several = [f"[{host}]" if ":" in host else host for host in where]
    places = several if len(where) > 1 else [f"{app.service or 'shop'}-kamal-sd"]
    urls = "\n".join(_lines(places))
    return _JOB.format(urls=urls, targets=", ".join(f'"{place}:9889"' for place in places))


def _lines(places: list[str]) -> Iterator[str]:
    for place in places:
        yield f"      - url: http://{place}:9889/targets"
        yield "        refresh_interval: 15s"
