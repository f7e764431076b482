"""Made-up engines that misbehave, and the real watchers and the real choice on top of them."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from app.discovery.aliases import inspects
from app.discovery.labels import readable
from app.engine import parse
from app.engine.client import EngineError
from app.engine.parse import Event
from app.engine.session import Pace
from app.engine.watcher import Watcher
from app.model import Container, Health, Slot, Snapshot
from app.model import State as Is
from app.settings import Settings
from app.state import State
from tests.builders import entry, human_duration, labels
from tests.engine.simulated import AT_ONCE, NEVER, Clock

PACE = Pace(longest_delay=8.0)
# An engine that behaves is known as it is after this time, whatever was before: a delay, a list
# that may be held back, a resync, which may renew the stream, and a look at what is doubtful.
HEALED = 2 * PACE.longest_delay + PACE.resync + 2 * PACE.confirm + 4.0


@dataclass
class Truth:
    """What is so with a container, whatever was told of it."""

    id: str
    slot: Slot
    name: str
    ip: str
    port: str
    created: float
    since: float
    state: Is = Is.RUNNING
    health: Health = Health.NONE
    on_network: bool = True
    one_off: bool = False

    @property
    def runs(self) -> bool:
        return self.state in (Is.RUNNING, Is.PAUSED)

    def shown(self, now: float) -> dict[str, Any]:
        """Its entry in a list."""
        age = human_duration(max(0.0, now - self.since))
        status = {
            Is.CREATED: "Created",
            Is.RUNNING: f"Up {age}",
            Is.PAUSED: f"Up {age} (Paused)",
            Is.RESTARTING: f"Restarting (1) {age} ago",
        }.get(self.state, f"Exited (137) {age} ago")
        _, service, role, destination = self.slot
        networks = {"kamal": {"IPAddress": self.ip if self.runs else ""}}
        return entry(
            self.name,
            Id=self.id,
            State=self.state.value,
            Status=status,
            Created=int(self.created),
            Labels=labels(service, "" if self.one_off else role, destination, self.port),
            NetworkSettings={"Networks": networks if self.on_network else {}},
            Health={"Status": self.health.value},
        )


@dataclass
class Engine:
    """One engine: what is true of its containers, and how badly it says so.

    `refusal` meets whoever connects, `answers` take the place of the next lists (an error is
    raised), `fault` that of all lists, and `inspect_fault` that of all inspects. Each event takes
    the first of `post`: after how many seconds it is told, how often that is; where `post` is empty
    each is told once and at once. For `lag` seconds after a change lists show what was before it.
    `deaths` are those that were read, and not undone by a start; `shown_running` says when an
    answer last showed a container running.
    """

    host: str
    clock: Clock
    true: dict[str, Truth] = field(default_factory=dict)
    refusal: Exception | None = None
    fault: object = None
    inspect_fault: Exception | None = None
    answers: list[object] = field(default_factory=list)
    post: list[tuple[float, ...]] = field(default_factory=list)
    lag: float = 0.0
    deaths: dict[str, float] = field(default_factory=dict)
    shown_running: dict[str, float] = field(default_factory=dict)
    open: int = 0
    # What lists show in the place of the truth, and until when.
    _stale: dict[str, tuple[Truth, float]] = field(default_factory=dict)
    _streams: list["_Stream"] = field(default_factory=list)

    # --- what happens ---

    def change(self, truth: Truth, *actions: str, lag: float = 0.0, **given: Any) -> None:
        """The container is otherwise from now on, which these events tell."""
        lag = lag or self.lag
        if lag:
            self._stale[truth.id] = (replace(truth), self.clock.now + lag)
        for name, value in given.items():
            setattr(truth, name, value)
        self.true[truth.id] = truth
        self.tell(truth.id, *actions)

    def remove(self, truth: Truth) -> None:
        if self.lag:
            self._stale[truth.id] = (replace(truth), self.clock.now + self.lag)
        del self.true[truth.id]
        self.tell(truth.id, "destroy")

    def tell(self, container_id: str, *actions: str) -> None:
        for action in actions:
            for delay in self.post.pop(0) if self.post else (0.0,):
                for stream in self._streams:
                    stream.put(Event(action, container_id), delay)

    def replace_by_another(self) -> None:
        """Another engine answers there: nobody is told of the end of those that were."""
        self.cut(None)
        self.true.clear()
        self._stale.clear()

    def cut(self, error: Exception | None) -> None:
        """Ends the streams, without a word or with an error; what was on its way is lost."""
        for stream in self._streams:
            stream.end(error)

    def behave(self) -> None:
        self.refusal = self.fault = self.inspect_fault = None
        self.lag = 0.0
        self.answers.clear()
        self.post.clear()

    # --- what it says: a Connection ---

    def connect(self) -> "Engine":
        if self.refusal:
            raise self.refusal
        self.open += 1
        return self

    def events(self) -> "_Stream":
        stream = _Stream(self)
        self._streams.append(stream)
        return stream

    def containers(self, ids: Collection[str] = ()) -> object:
        now = self.clock.now
        answer = self.fault or (self.answers.pop(0) if self.answers else None)
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            return answer
        stale = {key: was for key, (was, until) in self._stale.items() if until > now}
        found = [each for key, each in (self.true | stale).items() if not ids or key in ids]
        self.shown_running |= {each.id: now for each in found if each.runs}
        return [each.shown(now) for each in found]

    def inspect(self, container_id: str) -> object:
        if self.inspect_fault:
            raise self.inspect_fault
        truth = self.true.get(container_id)
        names = {"kamal": {"DNSNames": [truth.name, container_id[:12]]}} if truth else {}
        return truth and {
            "Id": truth.id,
            "Name": f"/{truth.name}",
            "Config": {"Hostname": container_id[:12]},
            "NetworkSettings": {"Networks": names},
        }

    def close(self) -> None:
        self.open -= 1

    def read(self, event: Event) -> None:
        """An event has come through to the watcher."""
        if event.action == "die":
            self.deaths[event.container_id] = self.clock.now
        elif event.action == "start":
            self.deaths.pop(event.container_id, None)

    def hung_up(self, stream: "_Stream") -> None:
        self._streams.remove(stream)


class _Stream:
    """An EventStream of what is put into it, each at its time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._items: list[tuple[float, Event]] = []
        self._end: Exception | None = None
        self._is_cut = False

    def put(self, event: Event, delay: float) -> None:
        self._items.append((self._engine.clock.now + delay, event))
        self._items.sort(key=lambda each: each[0])

    def end(self, error: Exception | None) -> None:
        self._items.clear()
        self._is_cut, self._end = True, error

    def __iter__(self) -> Iterator[Event]:
        clock = self._engine.clock
        while True:
            clock.wait(self._due)
            if self._is_cut:
                if self._end:
                    raise self._end
                return
            _, event = self._items.pop(0)
            self._engine.read(event)
            yield event

    def _due(self) -> float:
        if self._is_cut:
            return AT_ONCE
        return self._items[0][0] if self._items else NEVER

    def close(self) -> None:
        self.end(None)
        self._engine.hung_up(self)


class Engines:
    """Engines by their hosts, and a kamal-sd that watches them."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.clock = clock
        self.by_host = {each.host: Engine(each.host, clock) for each in settings.engines}
        self.on_publish: Callable[[Snapshot], object] = lambda snapshot: snapshot
        self.settings = settings
        self._start([Snapshot(host) for host in self.by_host])

    @property
    def true(self) -> dict[str, Truth]:
        """What is true of all containers."""
        return {key: one for each in self.by_host.values() for key, one in each.true.items()}

    def entries(self, host: str) -> dict[str, Container]:
        """What a list without any fault shows now."""
        shown = [each.shown(self.clock.now) for each in self.by_host[host].true.values()]
        found = parse.containers(shown, self.clock.now, readable(self.settings))
        return {each.id: each for each in found}

    def restart(self) -> None:
        """kamal-sd itself ends, and starts with what is on disk."""
        self.stop()
        for each in self.by_host.values():
            # The new one has not heard of any.
            each.deaths.clear()
        self._start(
            replace(each, lost_at=each.listed_at, error="not reached")
            if each.listed_at
            else Snapshot(each.host)
            for each in self.state.view.snapshots
        )

    def stop(self) -> None:
        for each in self._watchers:
            each.stop()
        self.clock.run()
        assert not [each.host for each in self.by_host.values() if each.open]

    def _start(self, known: Any) -> None:
        self.state = State(tuple(known), self.settings, self.clock.time)
        self._watchers = [
            Watcher(
                self.state.known_of(host),
                engine.connect,
                partial(self._publish, self.state),
                readable(self.settings),
                inspects(self.settings),
                PACE,
            )
            for host, engine in self.by_host.items()
        ]
        for each in self._watchers:
            each.start()

    def _publish(self, state: State, snapshot: Snapshot) -> Snapshot:
        published = state.publish(snapshot)
        self.on_publish(published)
        return published


def refused(status: str) -> EngineError:
    """What an engine's refusal comes to in the client."""
    return EngineError(f"it answered {status}")
