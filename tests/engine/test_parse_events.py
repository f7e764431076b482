"""Events, of which only the action and the container's id may be kept."""

import pytest

from app.engine import parse
from app.engine.parse import Event
from tests.builders import identity

ID = identity("shop-web-v1")
NETWORK = identity("network kamal")
SECRET = "hunter2"  # noqa: S105 - it shall not be found


def of_container(action: object, about: object = ID, **more: object) -> dict[str, object]:
    actor = {"ID": about, "Attributes": {"name": "shop-web-v1", "password": SECRET}}
    return {"Type": "container", "Action": action, "Actor": actor, **more}


def of_network(action: str, attributes: object) -> dict[str, object]:
    return {
        "Type": "network",
        "Action": action,
        "Actor": {"ID": NETWORK, "Attributes": attributes},
    }


def of_podman(kind: str, action: str) -> dict[str, object]:
    actor = {"ID": ID, "Attributes": {"name": "shop-web-v1", "podId": "", "image": ""}}
    return {"Type": kind, "Action": action, "Actor": actor}


def of_signal(number: str) -> dict[str, object]:
    actor = {"ID": ID, "Attributes": {"name": "shop-web-v1", "signal": number}}
    return {"Type": "container", "Action": "kill", "Actor": actor}


@pytest.mark.parametrize(
    ("entry", "event"),
    [
        pytest.param(
            {**of_container("die"), "status": "die", "id": ID, "from": "shop:v1", "time": 1},
            Event("die", ID),
            id="before API 1.52",
        ),
        pytest.param(of_container("start", scope="local"), Event("start", ID), id="API 1.52"),
        pytest.param(of_container("died"), Event("died", ID), id="Podman"),
        pytest.param(
            of_container("health_status: healthy"), Event("health_status", ID), id="health"
        ),
        pytest.param(
            of_container("health_status"), Event("health_status", ID), id="Podman's health"
        ),
        pytest.param(
            of_container(f"exec_create: sh -c echo {SECRET}: x"),
            Event("exec_create", ID),
            id="a command line",
        ),
        pytest.param(of_signal("15"), Event("kill", ID), id="TERM"),
        pytest.param(of_signal("3"), Event("kill", ID), id="QUIT, which nginx is stopped with"),
        pytest.param(of_container("kill"), Event("kill", ID), id="a signal that is not told"),
        pytest.param(
            of_network("disconnect", {"container": ID, "name": "kamal"}),
            Event("disconnect", ID),
            id="a network's, about a container",
        ),
        pytest.param(
            of_podman("network", "disconnect"), Event("disconnect", ID), id="Podman's network"
        ),
    ],
)
def test_an_event_is_an_action_and_an_id(entry: object, event: Event) -> None:
    assert parse.event(entry) == event


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(of_container("prune", ""), id="prune, with an empty id"),
        pytest.param(of_container("start", None), id="no id"),
        pytest.param(of_container("start", 5), id="an id that is no text"),
        pytest.param(of_container("start", "\ud800"), id="an id that is half a surrogate pair"),
        pytest.param(of_container("start", "a b\n"), id="an id that is none"),
        pytest.param(of_container(None), id="no action"),
        pytest.param(of_container(["die"]), id="an action that is no text"),
        pytest.param({"Type": "container", "Action": "die", "id": ID}, id="no actor"),
        pytest.param({"Type": "container", "Action": "die", "Actor": None}, id="a null actor"),
        pytest.param({"Type": "container", "Action": "die", "Actor": ID}, id="a text for an actor"),
        pytest.param(of_network("create", {"name": "kamal"}), id="a network's own"),
        pytest.param(of_network("connect", None), id="a network's without attributes"),
        pytest.param(of_network("connect", {"container": ""}), id="a network's about nobody"),
        pytest.param(of_signal("1"), id="HUP"),
        pytest.param(of_signal("10"), id="USR1"),
        pytest.param(of_signal("12"), id="USR2"),
        pytest.param(of_podman("container", "kill"), id="Podman's, of any signal"),
        pytest.param(None, id="null"),
        pytest.param([], id="a list"),
        pytest.param("die", id="a text"),
        pytest.param({}, id="nothing"),
    ],
)
def test_what_is_about_no_container_is_none(entry: object) -> None:
    assert parse.event(entry) is None


def test_nothing_else_of_an_event_is_kept() -> None:
    entry = of_container(f"exec_start: {SECRET}", **{"from": SECRET, "status": SECRET})
    assert SECRET not in repr(parse.event(entry))
