"""The engine's API through docker-py: the few calls that kamal-sd makes, and their errors.

What this works around was all seen with docker-py 7.2: `version="auto"` asks the engine while it
is being constructed; a proxy in the environment takes over `tcp://`; `containers.list()` inspects
every container; `events()` has no time limit, and ends without a word when its connection does.
"""

import errno
import json
import socket
import ssl
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from typing import Any, Protocol, TypeVar

import docker
import docker.constants
import docker.errors
import requests
import urllib3
from docker.transport import UnixHTTPAdapter

from app.engine import mounts, parse, tls
from app.engine.parse import Event
from app.engine.tls import TlsFiles

_T = TypeVar("_T")
_Version = tuple[int, ...]

# The newest API whose lists and events `parse` was written for.
_NEWEST_API = "1.52"

# Podman says `died` and `remove` for `die` and `destroy`. The engine takes `health_status` as a
# prefix.
EVENT_ACTIONS = frozenset(
    {
        *("create", "start", "kill", "die", "died", "destroy", "remove", "rename"),
        *("pause", "unpause", "health_status", "connect", "disconnect"),
    }
)
# The engine filters: exec events, with command lines in them, are never asked for.
_EVENT_FILTERS = {"type": ["container", "network"], "event": sorted(EVENT_ACTIONS)}

# docker-py's own, and what it lets through: ValueError where JSON cannot be read, KeyError and
# TypeError where it has another shape, AttributeError from a stream closed while it is being read.
_ERRORS = (
    docker.errors.DockerException,
    docker.errors.StreamParseError,
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
)


class EngineError(Exception):
    """The engine cannot be heard. The message is for people."""


class StreamSilentError(EngineError):
    """No event came for so long that the stream may be dead. It has to be renewed."""


class NoNetworkError(EngineError):
    """There is no network of that name."""


class EventStream(Protocol):
    """Events until the connection ends, however it does. `close` ends it from another thread."""

    def __iter__(self) -> Iterator[Event]: ...
    def close(self) -> None: ...


class Connection(Protocol):
    """One connection to an engine. Its calls raise EngineError, and nothing else."""

    def events(self) -> EventStream:
        """Subscribes now: whatever happens after this call will be in the stream."""

    def containers(self, ids: Collection[str] = ()) -> object:
        """The engine's list of all its containers, stopped ones too, or of those with the ids."""

    def inspect(self, container_id: str) -> object:
        """All that the engine knows of a container; None where there is no such container."""

    def close(self) -> None: ...


class NetworkConnection(Protocol):
    """The only calls that change anything. They raise EngineError, and nothing else."""

    def join(self, network: str, container_id: str, aliases: Collection[str]) -> None:
        """Connects a container to a network. Raises NoNetworkError where there is none such."""

    def leave(self, network: str, container_id: str) -> None:
        """Disconnects a container, even a stopped one, from a network."""

    def make_network(self, network: str) -> None:
        """Makes an internal network: it has no way out, and so changes nobody's default route."""

    def close(self) -> None: ...


class DockerConnection:
    """Both kinds of connection to a Docker Engine, or to what speaks its API.

    `timeout` seconds are the most that an answer may take; `silence` seconds without an event end
    the stream. With `tls_files` it speaks TLS at tcp://. Raises EngineError where the engine does
    not answer.
    """

    def __init__(
        self, url: str, *, timeout: float, silence: float, tls_files: TlsFiles | None = None
    ) -> None:
        self._limits = (timeout, silence)
        oldest = docker.constants.MINIMUM_DOCKER_API_VERSION
        with _client(url, oldest, self._limits, tls_files) as client:
            try:
                version = _negotiate(_call(lambda: client.version(api_version=False)))
            except EngineError as error:
                raise EngineError(f"{error}{_advice(url)}") from None
        self._client = _client(url, version, self._limits, tls_files)

    def events(self) -> EventStream:
        return _DockerEvents(
            _call(lambda: self._client.events(filters=_EVENT_FILTERS, decode=True)), self._limits[1]
        )

    def containers(self, ids: Collection[str] = ()) -> object:
        filters = {"id": sorted(ids)} if ids else None
        return _call(lambda: self._client.containers(all=True, filters=filters))

    def inspect(self, container_id: str) -> object:
        try:
            return _call(lambda: self._client.inspect_container(container_id))
        except EngineError as error:
            if isinstance(error.__cause__, docker.errors.NotFound):
                return None
            raise

    def join(self, network: str, container_id: str, aliases: Collection[str]) -> None:
        try:
            _call(
                lambda: self._client.connect_container_to_network(
                    container_id, network, aliases=list(aliases)
                )
            )
        except EngineError as error:
            cause = error.__cause__
            if isinstance(cause, docker.errors.NotFound) and "network" in (cause.explanation or ""):
                raise NoNetworkError(str(error)) from None
            raise

    def leave(self, network: str, container_id: str) -> None:
        _call(lambda: self._client.disconnect_container_from_network(container_id, network))

    def make_network(self, network: str) -> None:
        _call(lambda: self._client.create_network(network, driver="bridge", internal=True))

    def close(self) -> None:
        self._client.close()


class _Client(docker.APIClient):
    """docker-py's client, in which nothing is without a time limit.

    It asks for a stream of events with no limit, and takes whatever answers for one. Here its head
    is an answer like any other, and each piece of it may take `silence` seconds. A host that is cut
    off without a word ends it after twice the time that an answer may take, as it does over SSH.
    """

    silence = 600.0

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # noqa: ANN401
        if options.get("timeout") is not None:
            return super().send(request, **options)
        response = super().send(request, **options | {"timeout": self.timeout})
        self._raise_for_status(response)  # type: ignore[attr-defined]
        # Where docker-py finds the socket, too, when it closes a stream.
        reader: Any = response.raw._fp  # noqa: SLF001
        sock: socket.socket = reader.fp.raw._sock  # noqa: SLF001
        sock.settimeout(self.silence)
        if sys.platform == "linux" and sock.family != socket.AF_UNIX:
            seconds = max(1, int(self.timeout))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, seconds)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, seconds)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 1)
        return response


class _OnePool(UnixHTTPAdapter):
    """Takes each connection for every question.

    docker-py's own keeps them by the whole URL. A look names containers in its URL, so each would
    leave a connection behind, up to 25.
    """

    def get_connection(self, url: str | bytes, proxies: Any = None) -> Any:  # noqa: ANN401, ARG002
        return super().get_connection("http+docker://localhost", proxies)


class _DockerEvents:
    def __init__(self, stream: "docker.types.CancellableStream[object]", silence: float) -> None:
        self._stream = stream
        self._silence = silence

    def __iter__(self) -> Iterator[Event]:
        try:
            for entry in self._stream:
                event = parse.event(entry)
                if event is not None:
                    yield event
        except urllib3.exceptions.ReadTimeoutError as error:
            # urllib3 takes the system's word that nobody is there for a limit of its own.
            if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ETIMEDOUT:
                raise EngineError("its host does not answer any more") from None
            raise StreamSilentError(f"no event for {self._silence:g} s") from None
        except _ERRORS as error:
            raise EngineError(_words(error)) from None

    def close(self) -> None:
        # It is closed already, or was just now by its reader.
        with suppress(*_ERRORS):
            self._stream.close()


def _client(
    url: str, version: str, limits: tuple[float, float], tls_files: TlsFiles | None
) -> _Client:
    timeout, silence = limits
    client = _call(
        lambda: _Client(
            base_url=url,
            version=version,
            timeout=timeout,  # type: ignore[arg-type]  # requests takes any number
            tls=tls_files.config() if tls_files else False,
        )
    )
    client.silence = silence
    client.trust_env = False
    if url.startswith("unix://"):
        client.mount(
            "http+docker://", _OnePool(url.replace("unix://", "http+unix://", 1), client.timeout)
        )
    return client


def _advice(url: str) -> str:
    """What else is to be said where the engine at that URL cannot be reached."""
    if url.startswith("unix://") and mounts.is_left_behind(url.removeprefix("unix://")):
        return (
            "; the engine has made its socket anew, and the file that was mounted is the old one: "
            "restart kamal-sd, and mount the socket's folder instead of the file"
        )
    return ""


def _negotiate(answer: Any) -> str:  # noqa: ANN401
    """The engine's own version, as far as it is known here and the engine lets it."""
    try:
        version: str = min(answer["ApiVersion"], _NEWEST_API, key=_number)
        oldest: str = answer.get("MinAPIVersion") or version
        return max(version, oldest, key=_number)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise EngineError("it names no API version, as a Docker Engine does at /version") from None


def _number(version: str) -> _Version:
    return tuple(int(part) for part in version.split("."))


def _call(call: Callable[[], _T]) -> _T:
    try:
        return call()
    except _ERRORS as error:
        raise EngineError(_words(error)) from error


def _words(error: BaseException) -> str:
    """One line on what went wrong, without the layers of wrapping that say it again."""
    if isinstance(error, docker.errors.APIError) and "to an HTTPS" in (error.explanation or ""):
        return "it speaks TLS there; set tls for the engine"
    if (answer := _answer_behind(error)) is not None:
        return f"it answered {answer.status_code} {answer.reason}"
    while (inner := _inner(error)) is not None:
        error = inner
    if isinstance(error, urllib3.exceptions.SSLError) and isinstance(error.args[0], ssl.SSLError):
        error = error.args[0]
    if isinstance(error, ssl.SSLError):
        return tls.words(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    told = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    is_json = isinstance(error, json.JSONDecodeError)
    return f"its answer is no JSON, or a part of it alone: {told}" if is_json else told


def _answer_behind(error: BaseException | None) -> requests.Response | None:
    """The answer that says of itself that it is an error; None where it is another kind of error.

    docker-py fails over one whose body is JSON, but without a `message`.
    """
    while error is not None:
        if isinstance(error, requests.HTTPError) and error.response is not None:
            return error.response
        error = _inner(error)
    return None


def _inner(error: BaseException) -> BaseException | None:
    inner = error.__cause__ or error.__context__
    # json's way to come to an end.
    return None if isinstance(inner, StopIteration) else inner
