"""A server and an engine for the command line to ask, made of sockets and of true answers."""

import json
from collections.abc import Iterable
from typing import Any, Final

from app.model import Container
from tests.builders import NOW
from tests.engine.handmade import VERSION, Answer, HandMade, answer
from tests.web.site import Site


def server(site: Site) -> HandMade:
    """Answers as the site does, whatever the filters; who asked for what is in `requests`."""
    answers: dict[str, Answer] = {}
    for path in ("/explain", "/targets"):
        said = site.ask(path)
        status = f"{said.status_code} {said.reason_phrase}"
        answers[path] = answer(said.content, status, content_type=said.headers["content-type"])
    return HandMade(answers)


def url_of(place: HandMade) -> str:
    return place.url.replace("tcp://", "http://")


def engine(entries: Iterable[dict[str, Any]]) -> HandMade:
    """An engine that lists these entries."""
    return HandMade({"/version": VERSION, "/containers/json": answer(list(entries))})


def entry(container: Container) -> dict[str, Any]:
    """A container as an engine lists it, with the age that it has at NOW."""
    seconds = int(NOW - container.since)
    running = container.running
    return {
        "Id": container.id,
        "Names": [f"/{container.name}"],
        "Image": container.image,
        "State": container.state.value,
        "Status": f"Up {seconds} seconds" if running else f"Exited (0) {seconds} seconds ago",
        "Created": int(container.created),
        "Labels": dict(container.labels),
        "HostConfig": {"NetworkMode": container.network_mode},
        "NetworkSettings": {
            "Networks": {each.name: {"IPAddress": each.ipv4} for each in container.networks}
        },
    }


NOT_JSON: Final = answer(b"<html>Grafana</html>", content_type="text/html")
OTHER_JSON: Final = answer(json.dumps({"status": "success"}).encode())
