"""Putting it together: storage, state, a watcher an engine, and the web server before them."""

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Event as Flag

import uvicorn

from app import file_sd, logs
from app.alias_keeper import AliasKeeper
from app.discovery.aliases import inspects
from app.discovery.history import Entry
from app.discovery.labels import readable
from app.engine import proxy_state
from app.engine.client import Connection, DockerConnection
from app.engine.session import Pace
from app.engine.ssh import SshConnection
from app.engine.tls import TlsFiles
from app.engine.watcher import Watcher
from app.follower import Follower
from app.model import Snapshot
from app.peers import PeerWatcher, remembered
from app.settings import EngineSettings, Settings
from app.state import State, View
from app.storage import Storage, StorageError
from app.web import create_app

log = logging.getLogger(__name__)

# Without an event for this long, the stream is taken anew: a connection that a firewall has dropped
# looks just like a quiet engine.
SILENCE_SECONDS = 600.0

# Together they are less than the 10 s after which `docker stop` and Kamal kill.
_SHUTDOWN_SECONDS = 5
_HANGING_ENGINE_SECONDS = 3

_Thread = Watcher | PeerWatcher | Follower
Connect = Callable[[EngineSettings], Connection]


class _Server(uvicorn.Server):
    """A server that tells its app of the end, which streams that have none wait for."""

    def __init__(self, config: uvicorn.Config, ending: asyncio.Event) -> None:
        super().__init__(config)
        self._ending = ending

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ending.set()
        await super().shutdown(sockets)


def connect(engine: EngineSettings) -> DockerConnection:
    """A connection to that engine. Raises EngineError."""
    if engine.is_over_ssh:
        return SshConnection(
            engine.url,
            timeout=engine.timeout,
            silence=SILENCE_SECONDS,
            **(engine.ssh.model_dump() if engine.ssh else {}),
        )
    return DockerConnection(
        engine.url,
        timeout=engine.timeout,
        silence=SILENCE_SECONDS,
        tls_files=TlsFiles(**engine.tls.model_dump()) if engine.tls else None,
    )


def serve(settings: Settings, connect: Connect = connect) -> None:
    """Serves until SIGTERM or SIGINT, and leaves nothing behind."""
    logs.configure(settings.log_level, settings.log_format)
    stopping = Flag()
    # uvicorn gives the signal it stopped for to whoever had it before. SIGTERM is no failure.
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    with ExitStack() as stack, suppress(KeyboardInterrupt):
        state = stack.enter_context(watching(settings, connect))
        if settings.file_sd:
            stack.enter_context(file_sd.writing(settings.file_sd, state))
        app = create_app(state, settings)
        config = uvicorn.Config(
            app,
            host=settings.listen_host,
            port=settings.listen_port,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        )
        server = _Server(config, app.state.ending)
        # Between here and uvicorn's own handlers, too, a signal counts.
        signal.signal(signal.SIGTERM, lambda *_: setattr(server, "should_exit", True))
        if not stopping.is_set():
            server.run()


def keep_names(settings: Settings) -> None:
    """Keeps the managed names until SIGTERM or SIGINT, and serves nothing."""
    logs.configure(settings.log_level, settings.log_format)
    stopping = Flag()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    with suppress(KeyboardInterrupt), watching(settings):
        stopping.wait()


@contextmanager
def watching(
    settings: Settings, connect: Connect = connect, pace: Pace | None = None
) -> Iterator[State]:
    """A state that is kept true by a watcher for each engine, as long as the context lasts."""
    is_readable, is_inspected = readable(settings), inspects(settings)
    storage = _storage(settings, is_readable)
    before = [
        storage.load(engine.host, engine.url) if storage else Snapshot(engine.host)
        for engine in settings.engines
    ]
    peers = {each.url: remembered(each, storage) for each in settings.peers}
    history = storage.load_history() if storage else ()
    state = State(before, settings, peers=peers, history=history)
    pace = (pace or Pace())._replace(resync=settings.resync_interval)
    watchers = []
    for engine, snapshot in zip(settings.engines, before, strict=True):
        publish = state.publish
        if storage:
            publish = partial(_publish_and_save, state, storage, engine.url)
        watcher = Watcher(
            snapshot, partial(connect, engine), publish, is_readable, is_inspected, pace
        )
        watchers.append(watcher)
    asking = [
        PeerWatcher(each, peers[each.url], state.publish_peer, storage) for each in settings.peers
    ]
    threads: list[_Thread] = [*watchers, *asking, *_keepers(settings, state)]
    if storage:
        file = _HistoryFile(storage)
        # What happened last is written at the end, too.
        threads.append(Follower(state, file.save, "history", lambda: file.save(state.view)))
    for each in threads:
        each.start()
    try:
        with _proxy_followed(settings, state):
            yield state
    finally:
        _end(threads)


@contextmanager
def _proxy_followed(settings: Settings, state: State) -> Iterator[None]:
    file, engine = settings.proxy.state_file, settings.engine_of_this_host
    if file is None or engine is None:
        yield
        return
    with proxy_state.following(file, partial(state.publish_active, engine.host)):
        yield


def _keepers(settings: Settings, state: State) -> Iterator[Follower]:
    """Those that keep the managed names, one an engine."""
    for engine in settings.engines if settings.aliases.manage else ():
        keeper = AliasKeeper(engine.host, settings.aliases.network, partial(connect, engine))
        yield Follower(state, keeper.act, f"names {engine.host or 'engine'}", keeper.close)


class _HistoryFile:
    """The history on disk, written when it has become another one."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._written: tuple[Entry, ...] | None = None

    def save(self, view: View) -> None:
        if view.history != self._written:
            self._written = view.history
            self._storage.save_history(view.history)


def _end(threads: Collection[_Thread]) -> None:
    """Has them all end, and waits for it, but not for an engine that hangs."""
    for each in threads:
        each.stop()
    deadline = time.monotonic() + _HANGING_ENGINE_SECONDS
    for each in threads:
        each.join(max(0.0, deadline - time.monotonic()))


def _publish_and_save(state: State, storage: Storage, url: str, snapshot: Snapshot) -> Snapshot:
    published = state.publish(snapshot)
    if published.up:
        storage.save(published, url)
    return published


def _storage(settings: Settings, is_readable: Callable[[str], bool]) -> Storage | None:
    directory = settings.data_dir or default_data_dir()
    try:
        return Storage(directory, is_readable)
    except StorageError as error:
        log.warning("%s; a restart while an engine is down will know nothing", error)
        return None


def default_data_dir() -> Path:
    """Where a service keeps its state: root's place, else the user's (XDG Base Directory)."""
    if os.geteuid() == 0:
        return Path("/var/lib/kamal-sd")
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "kamal-sd"
