"""What keeps a state true: threads that start with the settings that ask for them, and end so."""

import logging
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Protocol, Self

from app import file_sd
from app.alias_keeper import AliasKeeper
from app.discovery.aliases import inspects
from app.discovery.labels import readable
from app.engine import proxy_state
from app.engine.client import Connection, NetworkConnection
from app.engine.session import Pace
from app.engine.watcher import Watcher
from app.follower import Follower
from app.model import Snapshot
from app.peers import PeerWatcher, remembered
from app.settings import AliasSettings, EngineSettings, PeerSettings, Settings
from app.state import State
from app.storage import Storage, StorageError, default_data_dir
from app.view import View

log = logging.getLogger(__name__)

# How long is waited for an engine that hangs. At the end it is less than the 10 s after which
# `docker stop` and Kamal kill, together with what the web server may take, and a reload.
_END_SECONDS = 3.0
_RELOAD_SECONDS = 1.0
# What is known is written so long after a change, when whoever asks has been answered, and again
# after so long, since a list that shows nothing new is newer all the same.
_KEEP_PAUSE_SECONDS, _KEEP_SECONDS = 0.25, 60.0
# A full disk may be mended at any time.
_KEEP_RETRY_SECONDS = 5.0

Connect = Callable[[EngineSettings], Connection]
ConnectToNetworks = Callable[[EngineSettings], NetworkConnection]


class Service:
    """A state, and all that keeps it true and acts on it, as long as the context lasts.

    Engines are watched over what `connect` gives, and the managed names kept over what
    `connect_to_networks` gives. Both raise EngineError where an engine cannot be reached.
    """

    def __init__(
        self,
        settings: Settings,
        connect: Connect,
        connect_to_networks: ConnectToNetworks,
        pace: Pace | None = None,
    ) -> None:
        self._connect = connect
        self._connect_to_networks = connect_to_networks
        self._pace = pace or Pace()
        self._storage = _storage(settings)
        self._parts: dict[_Wanted, _Part] = {}
        self.state = State(
            [self._stored(engine) for engine in settings.engines],
            settings,
            peers={each.url: remembered(each, self._storage) for each in settings.peers},
            history=self._storage.load_history() if self._storage else (),
        )
        self._written = self.state.view.history
        self._keeping = Lock()

    def __enter__(self) -> Self:
        self._start(self.state.settings)
        return self

    def __exit__(self, *_: object) -> None:
        for part in self._parts.values():
            part.stop()
        _wait_for(self._parts.values(), _END_SECONDS)

    def reload(self, settings: Settings) -> None:
        """Takes other settings at once. It is not for several threads at a time.

        What asks for the same under both runs on untouched. An engine that is watched anew starts
        with what is known of it, by another name too. `listen` and `data_dir` stay as they are.
        """
        before, wanted = self.state.settings, set(_wanted(settings))
        # What goes may come back.
        self._keep(self.state.view)
        ended = {each: self._parts.pop(each) for each in self._parts.keys() - wanted}
        for each, part in ended.items():
            part.stop()
            if isinstance(each, _ProxyState):
                self.state.publish_active(each.host, {})
        if settings.container_labels != before.container_labels:
            self._storage = _storage(settings)
        peers = {each.url for each in before.peers}
        self.state.reconfigure(
            settings,
            self._not_known(before.engines, settings.engines),
            {
                each.url: remembered(each, self._storage)
                for each in settings.peers
                if each.url not in peers
            },
        )
        self._start(settings)
        _wait_for(ended.values(), _RELOAD_SECONDS)

    def _not_known(
        self, before: Collection[EngineSettings], now: Collection[EngineSettings]
    ) -> list[Snapshot]:
        """What the engines start with that are not known by their host."""
        known = {(engine.host, engine.url) for engine in before}
        hosts = {engine.url: engine.host for engine in before}
        return [
            replace(self.state.known_of(hosts[engine.url]), host=engine.host)
            if engine.url in hosts
            else self._stored(engine)
            for engine in now
            if (engine.host, engine.url) not in known
        ]

    def _start(self, settings: Settings) -> None:
        for each in _wanted(settings):
            if each not in self._parts:
                self._parts[each] = part = self._made(each, settings)
                part.start()

    def _made(self, wanted: "_Wanted", settings: Settings) -> "_Part":
        match wanted:
            case _Engine(engine):
                return self._watcher(engine, settings)
            case _Peer(peer):
                gate = _Gate()
                publish = partial(_publish_peer, gate, self.state)
                known = self.state.known_of_peer(peer.url)
                return _Gated(PeerWatcher(peer, known, publish, self._storage), gate)
            case _Names(engine, network):
                keeper = AliasKeeper(
                    engine.host, network, partial(self._connect_to_networks, engine)
                )
                name = f"names {engine.host or 'engine'}"
                return Follower(self.state, keeper.act, name, keeper.close)
            case _ProxyState(file, host):
                return _Context(
                    proxy_state.following(file, partial(self.state.publish_active, host))
                )
            case _File(file):
                return _Context(file_sd.writing(file, self.state))
            case _Memory():
                # What happened last is written at the end, too.
                return Follower(
                    self.state,
                    self._keep,
                    "memory",
                    lambda: self._keep(self.state.view),
                    _KEEP_PAUSE_SECONDS,
                )

    def _keep(self, view: View) -> float:
        """Writes what the next run shall know; the seconds until it is to be written anew."""
        with self._keeping:
            if self._storage is None:
                return _KEEP_SECONDS
            urls = {engine.host: engine.url for engine in view.outcome.settings.engines}
            are_there = [
                self._storage.save(snapshot, urls[snapshot.host])
                for snapshot in view.snapshots
                if snapshot.host in urls
            ]
            if view.history != self._written:
                are_there.append(self._storage.save_history(view.history))
                if are_there[-1]:
                    self._written = view.history
            return _KEEP_SECONDS if all(are_there) else _KEEP_RETRY_SECONDS

    def _watcher(self, engine: EngineSettings, settings: Settings) -> "_Gated":
        gate = _Gate()
        return _Gated(
            Watcher(
                self.state.known_of(engine.host),
                partial(self._connect, engine),
                partial(_publish, gate, self.state),
                readable(settings),
                inspects(settings),
                self._pace._replace(resync=settings.resync_interval),
            ),
            gate,
        )

    def _stored(self, engine: EngineSettings) -> Snapshot:
        if self._storage is None:
            return Snapshot(engine.host)
        return self._storage.load(engine.host, engine.url)


@dataclass(frozen=True)
class _Engine:
    """An engine is watched, and in which way: other values need another watcher."""

    engine: EngineSettings
    aliases: AliasSettings
    container_labels: tuple[str, ...]
    resync_interval: float


@dataclass(frozen=True)
class _Peer:
    """A peer is asked."""

    peer: PeerSettings


@dataclass(frozen=True)
class _Names:
    """The managed names on an engine's network are kept."""

    engine: EngineSettings
    network: str


@dataclass(frozen=True)
class _ProxyState:
    """kamal-proxy's state file is followed, for that host's engine."""

    file: Path
    host: str


@dataclass(frozen=True)
class _Memory:
    """What is known of the engines, and what happened, is kept on disk."""


@dataclass(frozen=True)
class _File:
    """The targets are written to a file."""

    file: Path


_Wanted = _Engine | _Peer | _Names | _ProxyState | _File | _Memory


def _wanted(settings: Settings) -> Iterator[_Wanted]:
    """All that these settings ask for."""
    aliases = settings.aliases
    for engine in settings.engines:
        yield _Engine(engine, aliases, settings.container_labels, settings.resync_interval)
        if aliases.manage:
            yield _Names(engine, aliases.network)
    for peer in settings.peers:
        yield _Peer(peer)
    if settings.proxy.state_file and settings.engine_of_this_host:
        yield _ProxyState(settings.proxy.state_file, settings.engine_of_this_host.host)
    if settings.file_sd:
        yield _File(settings.file_sd)
    yield _Memory()


class _Part(Protocol):
    """What runs. `stop` does not wait for an engine; `join` does, for so many seconds."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def join(self, timeout: float) -> None: ...


class _Gate:
    """What nothing passes any more once it is closed, whoever is still on the way to it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._is_open = True

    @contextmanager
    def passing(self) -> Iterator[bool]:
        """Whether it is open, which stays so as long as the context lasts."""
        with self._lock:
            yield self._is_open

    def close(self) -> None:
        with self._lock:
            self._is_open = False


class _Gated:
    """A watcher. What it finds counts until it is told to stop, although it may hang for longer."""

    def __init__(self, watcher: Watcher | PeerWatcher, gate: _Gate) -> None:
        self._watcher = watcher
        self._gate = gate

    def start(self) -> None:
        self._watcher.start()

    def stop(self) -> None:
        self._gate.close()
        self._watcher.stop()

    def join(self, timeout: float) -> None:
        self._watcher.join(timeout)


class _Context:
    """A context that lasts from `start` to `stop`, and waits for nobody but itself."""

    def __init__(self, context: AbstractContextManager[None]) -> None:
        self._context = context
        self._entered = ExitStack()

    def start(self) -> None:
        self._entered.enter_context(self._context)

    def stop(self) -> None:
        self._entered.close()

    def join(self, timeout: float) -> None:
        pass


def _publish(gate: _Gate, state: State, snapshot: Snapshot) -> Snapshot:
    with gate.passing() as is_open:
        return state.publish(snapshot) if is_open else snapshot


def _publish_peer(gate: _Gate, state: State, url: str, snapshots: tuple[Snapshot, ...]) -> None:
    with gate.passing() as is_open:
        if is_open:
            state.publish_peer(url, snapshots)


def _wait_for(parts: Collection[_Part], seconds: float) -> None:
    """Waits for the end of them all, but not for an engine that hangs."""
    deadline = time.monotonic() + seconds
    for each in parts:
        each.join(max(0.0, deadline - time.monotonic()))


def _storage(settings: Settings) -> Storage | None:
    try:
        return Storage(settings.data_dir or default_data_dir(), readable(settings))
    except StorageError as error:
        log.warning("%s; a restart while an engine is down will know nothing", error)
        return None
