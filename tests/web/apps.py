"""kamal-sd as it really serves, before an engine of which a test says what a session would."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPMessage
from typing import Any, NamedTuple, Self

import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from app.discovery import relay
from app.engine import ledger
from app.model import Container, Slot, Snapshot
from app.protocol import Protocol
from app.server import _Server
from app.state import State
from app.tls_protocol import TlsProtocol
from app.web import create_app
from tests.builders import NOW, WEB, container, identity, labels, settings, snapshot
from tests.web.sockets import PORT, App, Reply, listener_at

OLD, NEW = "shop-web-v1", "shop-web-v2"
WEB_PATH = relay.path_of(WEB, PORT, "")
TIMEOUT = "X-Prometheus-Scrape-Timeout-Seconds"


def next_one(app: App, ago: float = 5.0) -> Container:
    """The generation after the current one, whose candidate it is for its first 90 s."""
    return container(NEW, ago=ago, ip=app.ip)


def wait_for(condition: Callable[[], object], what: str = "it to be so") -> None:
    """Waits until the condition holds, for far longer than it should take."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, f"waited too long for {what}"
        time.sleep(0.005)


class Answer(NamedTuple):
    """A whole answer, as it came."""

    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def words(self) -> str:
        """What kamal-sd says where it has no answer of an app."""
        assert self.headers["content-type"] == "text/plain; charset=utf-8"
        assert self.body.startswith(b"kamal-sd: ")
        return self.body.decode().removeprefix("kamal-sd: ").removesuffix("\n")


class Served:
    """kamal-sd before an engine, the first. An exception that its server logs fails the test."""

    def __init__(
        self, *containers: Container, http: type[Protocol] = Protocol, **given: Any
    ) -> None:
        checked = settings(**given)
        self._http = http
        self.now = NOW
        first, *others = (each.host for each in checked.engines)
        snapshots = [snapshot(*containers, host=first), *(snapshot(host=each) for each in others)]
        self.state = State(snapshots, checked, clock=lambda: self.now)
        self._listener = listener_at("127.0.0.1", 0)
        self.authority = f"127.0.0.1:{self._listener.getsockname()[1]}"
        app = create_app(self.state, Future)
        config = uvicorn.Config(app, http=http, log_config=None, access_log=False, lifespan="on")
        self._server = _Server(config, app.state.ending)
        self._thread = threading.Thread(target=self._server.run, args=[[self._listener]])
        self._faults = _Faults(logging.ERROR)

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self._faults)
        self._thread.start()
        wait_for(lambda: self._server.started, "the server")
        if not issubclass(self._http, TlsProtocol):
            # What takes long is made by a thread that stays as long as the server: not in a test.
            self.ask("/")
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.end()
        self._listener.close()
        logging.getLogger().removeHandler(self._faults)
        if kind is None:
            self.check()

    def end(self) -> None:
        """Ends the server, and the streams of events with it."""
        self._server.should_exit = True
        self._thread.join()

    def check(self) -> None:
        """Fails where the server has logged an exception."""
        found, self._faults.found = self._faults.found, []
        assert not found, found[0]

    def begin_with(self, *containers: Container) -> None:
        """The engine says that these are all there are; nothing is left of any before, or counted.

        So one server can do for the tests of a module.
        """
        self.now = NOW
        self.state.publish(ledger.listed(self._snapshot, [], self.now))
        # A scrape is counted a little after its answer.
        wait_for(lambda: not self._server.server_state.tasks, "the last scrape to be over")
        self.ask("/metrics")
        self.state.publish(ledger.listed(self._snapshot, containers, self.now))

    def ask_each(
        self, replies: Collection[Reply], headers: Mapping[str, str]
    ) -> list[tuple[App, Answer]]:
        """The answers of as many apps, each in a slot of its own, that are asked all at once."""
        with ExitStack() as stack:
            apps = [stack.enter_context(App(reply)) for reply in replies]
            services = [f"shop{number}" for number in range(len(apps))]
            self.begin_with(
                *(
                    container(f"{service}-web-v1", ip=app.ip, labels=labels(service))
                    for service, app in zip(services, apps, strict=True)
                )
            )
            callers = stack.enter_context(ThreadPoolExecutor(len(apps)))
            paths = [WEB_PATH.replace("shop", service) for service in services]
            answers = list(callers.map(self.ask, paths, [headers] * len(apps)))
            self.begin_with()
            return list(zip(apps, answers, strict=True))

    def connect(self) -> HTTPConnection:
        """A connection to it, for whoever wants to do with it as they like."""
        return HTTPConnection(self.authority, timeout=20)

    def ask(
        self, path: str = WEB_PATH, headers: Mapping[str, str] | None = None, method: str = "GET"
    ) -> Answer:
        """The answer to a request with these headers and Host alone, the path as it stands.

        Raises HTTPException where the answer is broken off.
        """
        connection = self.connect()
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, text in (headers or {}).items():
                connection.putheader(name, text)
            connection.endheaders()
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def looked(self, *containers: Container) -> None:
        """The engine says that these have started."""
        ids = [each.id for each in containers]
        self.state.publish(ledger.looked(self._snapshot, containers, self.now, ids))

    def died(self, *names: str) -> None:
        """The engine says that these are dead."""
        for name in names:
            self.state.publish(ledger.died(self._snapshot, identity(name), self.now))

    def told_to_stop(self, name: str) -> None:
        """The engine says that this one was sent a signal to end."""
        self.state.publish(ledger.told_to_stop(self._snapshot, identity(name)))

    def removed(self, *names: str) -> None:
        """The engine says that these are no more."""
        for name in names:
            self.state.publish(ledger.removed(self._snapshot, identity(name)))

    @property
    def _snapshot(self) -> Snapshot:
        return self.state.view.snapshots[0]

    def samples(self, name: str, slot: Slot = WEB) -> dict[str, float]:
        """kamal-sd's own samples of that name and slot, by their `result` or empty."""
        text = self.ask("/metrics").body.decode()
        return {
            sample.labels.get("result", ""): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name
            and all(sample.labels[each] == text for each, text in slot._asdict().items())
        }

    def counts(self, slot: Slot = WEB, **results: int) -> None:
        """Waits until scrapes through the relay are counted with these results, and no others."""
        wanted = {name.replace("_", "-"): number for name, number in results.items() if number}

        def counted() -> dict[str, float]:
            return self.samples("kamal_sd_relay_scrapes_total", slot)

        wait_for(lambda: sum(counted().values()) >= sum(wanted.values()), f"{wanted} to be counted")
        found = counted()
        assert found == wanted, f"{found} is not {wanted}"


class _Faults(logging.Handler):
    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.found.append(logging.Formatter().format(record))
