"""Putting it together: what keeps the state true, the web server before it, and signals."""

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event as Flag

import uvicorn

from app import logs
from app.engine.client import DockerConnection
from app.engine.session import Pace
from app.engine.ssh import SshConnection
from app.engine.tls import TlsFiles
from app.reloader import Reloader
from app.service import Connect, Service
from app.settings import EngineSettings, Settings
from app.settings_file import Source
from app.state import State
from app.web import create_app

# Without an event for this long, the stream is taken anew: a connection that a firewall has dropped
# looks just like a quiet engine.
SILENCE_SECONDS = 600.0

# With what a service takes for its end it is less than the 10 s after which `docker stop` and Kamal
# kill.
_SHUTDOWN_SECONDS = 5


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


def serve(settings: Settings, source: Source, connect: Connect = connect) -> None:
    """Serves until SIGTERM or SIGINT, and leaves nothing behind."""
    stopping = Flag()
    # uvicorn gives the signal it stopped for to whoever had it before. SIGTERM is no failure.
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    with suppress(KeyboardInterrupt), _running(settings, source, connect) as (state, reloader):
        app = create_app(state, reloader.ask)
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


def keep_names(settings: Settings, source: Source) -> None:
    """Keeps the managed names until SIGTERM or SIGINT, and serves nothing."""
    stopping = Flag()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    with suppress(KeyboardInterrupt), _running(settings, source, connect):
        stopping.wait()


@contextmanager
def watching(
    settings: Settings, connect: Connect = connect, pace: Pace | None = None
) -> Iterator[State]:
    """A state that is kept true as the settings say, as long as the context lasts."""
    with _service(settings, connect, pace) as service:
        yield service.state


def _service(settings: Settings, watch: Connect, pace: Pace | None = None) -> Service:
    # Whatever is watched, a recording too: names are given on real engines alone.
    return Service(settings, watch, connect, pace)


@contextmanager
def _running(
    settings: Settings, source: Source, connect: Connect
) -> Iterator[tuple[State, Reloader]]:
    """A state that is kept true, and who takes other settings, at SIGHUP too."""
    logs.configure(settings.log_level, settings.log_format)
    # Until there is somebody to ask; the settings were read just now.
    signal.signal(signal.SIGHUP, lambda *_: None)
    with _service(settings, connect) as service:

        def take(settings: Settings) -> None:
            logs.configure(settings.log_level, settings.log_format)
            service.reload(settings)

        with Reloader(source, service.state, take) as reloader:
            signal.signal(signal.SIGHUP, lambda *_: reloader.ask())
            yield service.state, reloader
