"""Containers, snapshots and settings for tests: whole ones, of which a test names what it is about.

`NOW` is the present of every test that does not say otherwise.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from app.discovery.decide import decide
from app.discovery.labels import readable
from app.model import Container, Decision, Health, Network, Port, Slot, Snapshot, State
from app.settings import ENVIRONMENT_PREFIX, Settings
from app.settings_file import Problem, SettingsError, load

# Writes a settings file: the fixture `write`.
Write = Callable[[str | bytes], Path]

NOW = 1_800_000_000.0
URL = "unix:///var/run/docker.sock"
WEB = Slot("", "shop", "web")


def identity(name: str) -> str:
    """A container id, as long and as hexadecimal as an engine's, that tells the name."""
    return name.encode(errors="surrogatepass").hex().ljust(64, "0")[:64]


def labels(
    service: str = "shop", role: str = "web", destination: str = "", port: str = "9394"
) -> dict[str, str]:
    """What Kamal and deploy.yml put on an app container."""
    given = {"service": service, "role": role, "destination": destination}
    return given | ({"prometheus.port": port} if port else {})


def container(
    name: str = "shop-web-v1",
    *,
    ago: float = 1000.0,
    ip: str = "172.18.0.5",
    network: str = "kamal",
    **given: Any,
) -> Container:
    """A running container of shop's web whose state began `ago` seconds before NOW."""
    values: dict[str, Any] = {
        "id": identity(name),
        "image": "registry.example/shop:v1",
        "state": State.RUNNING,
        "since": NOW - ago,
        "created": NOW - ago,
        "health": Health.NONE,
        "labels": labels(),
        "network_mode": "kamal",
        "networks": (Network(network, ipv4=ip),),
        "ports": (Port(9394, "tcp"),),
    }
    return Container(name=name, **(values | given))


def stopped(name: str, ago: float, **given: Any) -> Container:
    """A container of shop's web that stopped `ago` seconds before NOW."""
    return container(name, ago=ago, ip="", **{"state": State.EXITED, **given})


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def snapshot(*containers: Container, host: str = "", **given: Any) -> Snapshot:
    """A snapshot of an engine that was listed just now."""
    shown = MappingProxyType({each.id: each for each in containers})
    return Snapshot(host, containers=shown, **{"listed_at": NOW, **given})


def settings(**given: object) -> Settings:
    """Checked settings, of one engine where none are given. The environment has no say in them."""
    return Settings.model_validate({"engines": [{"url": URL}], **given})


def decisions(
    *containers: Container, now: float = NOW, host: str = "", **given: object
) -> tuple[Decision, ...]:
    """The decisions for these containers of one engine, under these settings."""
    return decide([snapshot(*containers, host=host)], settings(**given), now).decisions


def decision(*containers: Container, of: str = "", **given: Any) -> Decision:
    """The decision for the container of that name, or for the only one."""
    (found,) = (
        each for each in decisions(*containers, **given) if each.container.name == of or not of
    )
    return found


def entry(name: str = "shop-web-v1", **given: Any) -> dict[str, Any]:
    """A running container of shop's web, as Docker Engine 28.5 lists it."""
    values: dict[str, Any] = {
        "Id": identity(name),
        "Names": [f"/{name}"],
        "Image": "registry.example/shop:v1",
        "ImageID": "sha256:" + "0" * 64,
        "Command": "/rails/bin/thrust ./bin/rails server",
        "Created": int(NOW) - 61,
        "Ports": [{"PrivatePort": 9394, "Type": "tcp"}],
        "Labels": labels(),
        "State": "running",
        "Status": "Up About a minute",
        "HostConfig": {"NetworkMode": "kamal"},
        "NetworkSettings": {"Networks": {"kamal": {"IPAddress": "172.18.0.5"}}},
        "Mounts": [],
    }
    return values | given


def human_duration(seconds: float) -> str:
    """What go-units' HumanDuration writes (duration.go), which the engine's status is made of."""
    whole, hours = int(seconds), int(seconds / 3600 + 0.5)
    if whole < 60:
        return {0: "Less than a second", 1: "1 second"}.get(whole, f"{whole} seconds")
    if whole < 3600:
        return "About a minute" if whole < 120 else f"{whole // 60} minutes"
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    for limit, unit, name in ((14, 24, "days"), (60, 168, "weeks"), (730, 720, "months")):
        if hours < limit * 24:
            return f"{hours // unit} {name}"
    return f"{int(seconds / 3600) // 24 // 365} years"


def reads(*patterns: str) -> Any:
    """Which labels are read where the allow-list has these patterns."""
    return readable(settings(container_labels=list(patterns)))


def targets(found: Iterable[Decision]) -> dict[str, str]:
    """Each target's address by its instance."""
    return {
        each.target.labels["instance"]: address
        for each in found
        if each.target
        for address in each.target.targets
    }


def mistakes(path: Path | None, source: str = "") -> list[Problem]:
    """What is wrong in that file, or in the environment where there is none or it is the source."""
    with pytest.raises(SettingsError) as caught:
        load(path)
    assert caught.value.source == (source or (str(path) if path else "environment"))
    lines = [f"{caught.value.source}: {problem}" for problem in caught.value.problems]
    assert str(caught.value) == "\n".join(lines)
    return caught.value.problems


def mistake(path: Path | None) -> Problem:
    """The only thing that is wrong in it."""
    (found,) = mistakes(path)
    return found


def assert_mistake(path: Path, line: int, key: str, words: str) -> None:
    """The only mistake in that file has its line, its key, and words for people."""
    found = mistake(path)
    assert (found.line, found.key) == (line, key)
    assert found.message.startswith(words)
    assert "Value error" not in found.message
    assert "\n" not in str(found)


def clear_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes away every variable that settings are made of, for one test."""
    for name in list(os.environ):
        if name.startswith(ENVIRONMENT_PREFIX) or name in ("DOCKER_HOST", "KAMAL_HOST"):
            monkeypatch.delenv(name)
