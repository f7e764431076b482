"""An engine in memory, behind the same seam as a real one: a Connection and its EventStream.

It does what it is told, and writes down what it was asked.
"""

import time
from collections.abc import Callable, Collection, Iterator
from queue import SimpleQueue
from typing import Any

from app.engine.parse import Event

Entry = dict[str, Any]


def entry(container_id: str, state: str = "running", **more: Any) -> Entry:
    """An object of `GET /containers/json`: the role `web` of a service named like its id."""
    running = state == "running"
    return {
        "Id": container_id,
        "Names": [f"/{container_id}-web-v1"],
        "Image": f"registry/{container_id}:v1",
        "State": state,
        "Status": "Up 5 minutes" if running else "Exited (137) 5 minutes ago",
        "Created": int(time.time()) - 400,
        "Labels": {"service": container_id, "role": "web", "prometheus.port": "9394"},
        "HostConfig": {"NetworkMode": "kamal"},
        "NetworkSettings": {"Networks": {"kamal": {"IPAddress": "10.0.0.2" if running else ""}}},
        "Ports": [],
        **more,
    }


class FakeEngine:
    """Containers by id, and the lists that are shown of them.

    `asked` has all that was called, in order. `stale` are entries that lists show in place of the
    true ones, and `inspected` is what an inspect shows. A `refusal` is raised by whoever connects,
    a `fault` by whoever lists, and an `inspect_fault` by whoever inspects. `at_connect` runs before
    the one, `at_list` after a list was made and before it is given. `open` counts the connections
    that are not closed.
    """

    def __init__(self, *entries: Entry) -> None:
        self.true: dict[str, Entry] = {each["Id"]: each for each in entries}
        self.stale: dict[str, Entry] = {}
        self.asked: list[str] = []
        self.refusal: Exception | None = None
        self.fault: Exception | None = None
        self.inspected: dict[str, object] = {}
        self.inspect_fault: Exception | None = None
        self.at_connect: Callable[[], None] = lambda: None
        self.at_list: Callable[[], None] = lambda: None
        self.open = 0
        self._streams: list[FakeStream] = []

    def connect(self) -> "FakeConnection":
        self.asked.append("connect")
        self.at_connect()
        if self.refusal:
            raise self.refusal
        self.open += 1
        return FakeConnection(self)

    def subscribe(self) -> "FakeStream":
        stream = FakeStream()
        self._streams.append(stream)
        return stream

    def tell(self, action: str, container_id: str) -> None:
        for stream in self._streams:
            stream.put(Event(action, container_id))

    def cut(self, error: Exception | None = None) -> None:
        """Ends the streams, without a word or with an error."""
        for stream in self._streams:
            stream.put(error)
        self._streams.clear()

    def start(self, container_id: str, **more: Any) -> None:
        """A container starts; lists show that at once."""
        self.true[container_id] = entry(container_id, Status="Up Less than a second", **more)
        self.stale.pop(container_id, None)
        self.tell("start", container_id)

    def kill(self, container_id: str) -> None:
        """A container dies; lists show it as running until `settle`."""
        self.stale[container_id] = self.true[container_id]
        dead = entry(container_id, "exited", Status="Exited (137) Less than a second ago")
        self.true[container_id] = dead
        self.tell("die", container_id)

    def settle(self) -> None:
        """Lists show the truth from now on."""
        self.stale.clear()

    def running(self) -> set[str]:
        return {key for key, each in self.true.items() if each["State"] == "running"}


class FakeConnection:
    """A Connection to the engine in memory."""

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine

    def events(self) -> "FakeStream":
        self._engine.asked.append("events")
        return self._engine.subscribe()

    def containers(self, ids: Collection[str] = ()) -> object:
        engine = self._engine
        engine.asked.append(f"look {' '.join(sorted(ids))}" if ids else "list")
        if engine.fault:
            raise engine.fault
        shown = engine.true | engine.stale
        answer = [shown[key] for key in sorted(shown) if not ids or key in ids]
        engine.at_list()
        return answer

    def inspect(self, container_id: str) -> object:
        engine = self._engine
        engine.asked.append(f"inspect {container_id}")
        if engine.inspect_fault:
            raise engine.inspect_fault
        return engine.inspected.get(container_id)

    def close(self) -> None:
        self._engine.open -= 1


class FakeStream:
    """An EventStream of what is put into it; None ends it, and an error is raised."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Event | Exception | None] = SimpleQueue()

    def put(self, item: Event | Exception | None) -> None:
        self._queue.put(item)

    def __iter__(self) -> Iterator[Event]:
        while item := self._queue.get():
            if isinstance(item, Exception):
                raise item
            yield item

    def close(self) -> None:
        self._queue.put(None)
