"""The web app over a state whose clock stands still, asked without a network."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Final

import httpx

from app.access import Access
from app.model import Snapshot
from app.state import State
from app.web import create_app
from tests import http_sd_reader
from tests.builders import NOW, container, labels, settings, snapshot, stopped

ELSEWHERE: Final = ({"url": "tcp://192.0.2.1:2375"},)
# A staging and a production of one service, a role that stopped, and one without a port.
TOWN: Final = (
    container("shop-web-v2", ip="172.18.0.5"),
    stopped("shop-job-v1", 60.0, labels=labels(role="job")),
    container("shop-web-staging-v3", ip="172.18.0.6", labels=labels(destination="staging")),
    container("blog-web-v1", ip="172.18.0.7", labels=labels("blog")),
    container("blog-job-v1", ip="172.18.0.8", labels=labels("blog", "job", port="")),
)


class Site:
    """An app, its state and its clock."""

    def __init__(self, *snapshots: Snapshot, history: Any = (), **given: Any) -> None:
        self.now = NOW
        checked = settings(**given)
        self.state = State(snapshots, checked, clock=lambda: self.now, history=history)
        self._transport = httpx.ASGITransport(create_app(self.state, Future))

    def guard(self, access: Callable[[], Access]) -> None:
        """Lets those alone ask that this says from now on."""
        self._transport = httpx.ASGITransport(create_app(self.state, Future, access))

    def ask(
        self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET"
    ) -> httpx.Response:
        """The answer to a request with these headers, and no other ones but Host."""
        request = httpx.Request(method, f"http://kamal-sd{path}", headers=headers)
        return asyncio.run(self._ask(request))

    async def _ask(self, request: httpx.Request) -> httpx.Response:
        answer = await self._transport.handle_async_request(request)
        await answer.aread()
        answer.request = request
        return answer

    def instances(self, path: str) -> set[str]:
        """The instances among the targets that this path answers with."""
        return {
            target.labels["instance"]
            for target in http_sd_reader.read(self.ask(path).raise_for_status().content)
        }


def town(**given: Any) -> Site:
    """The site of an engine with TOWN's containers, on another host: nothing is relayed."""
    return Site(snapshot(*TOWN), **{"engines": ELSEWHERE, **given})
