"""In what Podman's API differs from Docker's, asserted as it is: a newer one may be another."""

import threading
import time
from contextlib import closing
from typing import Any, Self

import docker
import pytest

from app.engine.client import DockerConnection
from tests.engine.town import wait_for
from tests.engines.conftest import Says
from tests.engines.kinds import KINDS
from tests.engines.street import HEALTH, IMAGE, Street, decisions
from tests.lab.podman import Podman
from tests.lab.sd import Server

pytestmark = [
    pytest.mark.real,
    pytest.mark.parametrize(
        "started",
        [pytest.param(kind, id=kind.name.replace(" ", "-")) for kind in KINDS if kind.is_podman],
        indirect=True,
        scope="session",
    ),
]


class Ear:
    """Hears an engine's raw events of one container, less those that Docker does not have."""

    def __init__(self, engine: Podman, container: str, *events: str) -> None:
        self.heard: list[dict[str, Any]] = []
        self._container = container
        filters = {"type": ["container", "network"]} | ({"event": [*events]} if events else {})
        self._client = docker.APIClient(engine.url, version="1.41")
        self._stream = self._client.events(filters=filters, decode=True)
        self._thread = threading.Thread(target=self._listen)

    def _listen(self) -> None:
        for event in self._stream:
            own = event["Action"] in {"create", "init", "cleanup"}
            if event["Actor"]["ID"] == self._container and not own:
                self.heard.append(event)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # The last events may come late.
        time.sleep(1)
        self._stream.close()
        self._thread.join()
        self._client.close()

    @property
    def actions(self) -> list[str]:
        return [each["Action"] for each in self.heard]


@pytest.fixture
def podman(engine: Podman) -> Podman:
    assert isinstance(engine, Podman)
    return engine


def test_words(podman: Podman, street: Street, says: Says) -> None:
    """Podman's events: what they are called, and what they lack"""
    web = street.create("v1", restart="no", drain=1)
    with Ear(podman, web) as ear:
        podman.docker("start", web)
        podman.docker("network", "disconnect", "kamal", web)
        podman.docker("network", "connect", "kamal", web)
        podman.docker("stop", "--time=5", web)
        podman.docker("rm", web)
    assert ear.actions == ["start", "disconnect", "connect", "die", "remove"]
    # Docker's network is the actor of these, and its container an attribute.
    networks = [each for each in ear.heard if each["Type"] == "network"]
    assert [each["Action"] for each in networks] == ["disconnect", "connect"]
    assert not [each for each in networks if "container" in each["Actor"]["Attributes"]]
    says(
        "`stop` tells nothing before `die`; a removal is `remove`; the actor of a network's event "
        "is the container, and nothing names the network"
    )


def test_die_and_died(podman: Podman, street: Street, says: Says) -> None:
    """Podman's filter of events"""
    web = street.create("v1", restart="no")
    with Ear(podman, web, "die") as docker_word, Ear(podman, web, "died") as own_word:
        podman.docker("start", web)
        podman.docker("kill", web)
    assert docker_word.actions == []
    assert own_word.actions == ["die"]
    says("it is asked for `died`, and the event is then called `die`")


def test_kill(podman: Podman, street: Street, says: Says) -> None:
    """Podman's `kill`"""
    web = street.run("v1")
    with Ear(podman, web, "kill") as ear:
        podman.docker("kill", "--signal=USR1", web)
    (told,) = ear.heard
    assert "signal" not in told["Actor"]["Attributes"]
    says("it does not tell the signal")


def test_no_networks(podman: Podman, street: Street, server: Server, says: Says) -> None:
    """A container without a network of its own"""
    good = street.run("v1")
    labels = ("--label=service=shop", "--label=role=bare", "--label=prometheus.port=9394")
    bare = podman.docker("run", "--detach", "--network=none", *labels, IMAGE, "/bin/sleep", "60")
    wait_for(lambda: len(decisions(server)) == 2, "both to be seen")
    with closing(DockerConnection(podman.url, timeout=5, silence=5)) as connection:
        listed = connection.containers({bare.strip()})
    assert isinstance(listed, list)
    assert listed[0]["NetworkSettings"] == {"Networks": None}
    assert "HostConfig" not in listed[0]
    assert decisions(server)[good]["reason"] == "current"
    assert decisions(server)[bare.strip()]["targets"] == []
    says(f"`Networks` is null: no target ({decisions(server)[bare.strip()]['reason']})")


def test_health_run_by_hand(podman: Podman, street: Street, server: Server, says: Says) -> None:
    """`podman healthcheck run`, which systemd would run"""
    web = street.run("v1", "web", f"--health-cmd={HEALTH}")
    wait_for(lambda: web in decisions(server), "it to be seen")
    with Ear(podman, web, "health_status") as ear:
        podman.podman("healthcheck", "run", web)
        podman.podman("healthcheck", "run", web)
    told = podman.docker("inspect", "-f", "{{.State.Health.Status}}", web)
    assert told.strip() == "healthy"
    assert ear.actions == ["health_status"] * 2
    assert decisions(server)[web]["health"] == "none"
    says("one event a check, without its outcome; the list does not tell it, only inspect does")
