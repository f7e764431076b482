"""Putting it together: what keeps the state true, the web server before it, and signals."""

import asyncio
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from threading import Event as Flag
from typing import Any

import uvicorn

from app import access, logs, server_tls
from app.access import EVERYBODY, LiveAccess
from app.doorkeeper import Doorkeeper, use_all_descriptors
from app.engine.client import DockerConnection
from app.engine.session import Pace
from app.engine.ssh import SshConnection
from app.engine.tls import TlsFiles
from app.protocol import Protocol
from app.reloader import Reloader
from app.service import Connect, Service
from app.settings import EngineSettings, Settings
from app.settings_file import Source
from app.state import State
from app.tls_protocol import TlsProtocol
from app.web import create_app

log = logging.getLogger(__name__)

# Without an event for this long, the stream is taken anew: a connection that a firewall has dropped
# looks just like a quiet engine.
SILENCE_SECONDS = 600.0

# With what a service takes for its end it is less than the 10 s after which `docker stop` and Kamal
# kill.
_SHUTDOWN_SECONDS = 5

# How long a thread that computes keeps the loop waiting, after each call that the loop makes to the
# kernel. Python's own 5 ms would make an answer of 30 pieces last for 150.
_SWITCH_SECONDS = 0.0005


class _Server(uvicorn.Server):
    """A server that tells its app of the end, which streams that have none wait for, and that
    keeps its door while no descriptor is left.
    """

    def __init__(self, config: uvicorn.Config, ending: asyncio.Event) -> None:
        super().__init__(config)
        self._ending = ending
        self._doorkeeper: Doorkeeper | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        listeners = [each for server in self.servers for each in server.sockets]
        self._doorkeeper = Doorkeeper(listeners)
        asyncio.get_running_loop().set_exception_handler(self._doorkeeper)

    def _log_started_message(self, _listeners: Sequence[socket.SocketType]) -> None:
        # uvicorn knows of no TLS here.
        is_tls = issubclass(self.config.http_protocol_class, TlsProtocol)
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        log.info("listening at %s://%s:%d", "https" if is_tls else "http", host, self.config.port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ending.set()
        await super().shutdown(sockets)
        if self._doorkeeper:
            self._doorkeeper.close()


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
    """Serves until SIGTERM or SIGINT, and leaves nothing behind.

    Raises SettingsError where the web config file is wrong.
    """
    live = LiveAccess(settings.web_config) if settings.web_config else None
    stopping = Flag()
    # uvicorn gives the signal it stopped for to whoever had it before. SIGTERM is no failure.
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    use_all_descriptors()
    sys.setswitchinterval(_SWITCH_SECONDS)
    with ExitStack() as stack:
        stack.enter_context(suppress(KeyboardInterrupt))
        state, reloader = stack.enter_context(_running(settings, source, connect, live))
        _warn_if_open(settings, live)
        if live:
            stack.enter_context(access.following(live))
        app = create_app(state, reloader.ask, (lambda: live.now) if live else None)
        config = uvicorn.Config(
            app,
            host=settings.listen_host,
            port=settings.listen_port,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
            http=_over_tls(live) if live and live.now.tls else Protocol,
        )
        server = _Server(config, app.state.ending)
        # Between here and uvicorn's own handlers, too, a signal counts.
        signal.signal(signal.SIGTERM, lambda *_: setattr(server, "should_exit", True))
        if not stopping.is_set():
            server.run()


def _over_tls(live: LiveAccess) -> type[TlsProtocol]:
    """The protocol of connections that begin with what holds then."""

    class LiveProtocol(TlsProtocol):
        @property
        def context(self) -> ssl.SSLContext:
            context = live.now.tls
            assert context is not None  # noqa: S101 - TLS stays on
            return context

        def is_welcome(self, certificate: Mapping[str, Any]) -> bool:
            allowed = live.now.allowed_sans
            return not allowed or server_tls.has_san(certificate, allowed)

    return LiveProtocol


def _with_scheme(settings: Settings, live: LiveAccess | None) -> Settings:
    """The settings with the scheme at which the relay is reached, unless they say so themselves."""
    if live is None or not live.now.tls or "scheme" in settings.relay.model_fields_set:
        return settings
    relay = settings.relay.model_copy(update={"scheme": "https"})
    return settings.model_copy(update={"relay": relay})


def _warn_if_open(settings: Settings, live: LiveAccess | None) -> None:
    now = live.now if live else EVERYBODY
    if not (now.asks_who or now.requires_client_cert or settings.is_heard_here_alone):
        log.warning(
            "everybody who reaches %s may read what runs here, for there is no password; "
            "set web_config, or listen where Prometheus and you alone reach it",
            settings.listen,
        )


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
    settings: Settings, source: Source, connect: Connect, live: LiveAccess | None = None
) -> Iterator[tuple[State, Reloader]]:
    """A state that is kept true, and who takes other settings, at SIGHUP too."""
    logs.configure(settings.log_level, settings.log_format)
    # Until there is somebody to ask; the settings were read just now.
    signal.signal(signal.SIGHUP, lambda *_: None)
    with _service(_with_scheme(settings, live), connect) as service:

        def take(settings: Settings) -> None:
            logs.configure(settings.log_level, settings.log_format)
            service.reload(_with_scheme(settings, live))

        with Reloader(source, service.state, take) as reloader:
            signal.signal(signal.SIGHUP, lambda *_: reloader.ask())
            yield service.state, reloader
