"""Where the command line has its answers from: a running server, or the engines themselves."""

import http.client
import os
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Collection, Mapping
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TypeVar, cast
from urllib.parse import unquote_to_bytes, urlencode

from pydantic import TypeAdapter, ValidationError

from app import peers
from app.discovery import http_sd, peer
from app.discovery.aliases import inspects
from app.discovery.decide import decide
from app.discovery.explain import ExplainDocument, explain
from app.discovery.labels import readable
from app.discovery.wait import WaitDocument
from app.engine.client import EngineError
from app.engine.look import look
from app.model import Snapshot
from app.server import connect
from app.settings import ENVIRONMENT_PREFIX, EngineSettings, Settings
from app.settings_file import load

_TIMEOUT_SECONDS = 10.0
_TOKEN_VARIABLE = f"{ENVIRONMENT_PREFIX}TOKEN_FILE"
_WITH_USER = "https://user:password@host:9889"
_DOCUMENT = TypeAdapter(ExplainDocument)
_WAIT = TypeAdapter(WaitDocument)

_T = TypeVar("_T")

Filters = Mapping[str, frozenset[str]]
_NO_FILTERS: Filters = MappingProxyType({})


class SourceError(Exception):
    """The server or an engine did not answer. The message says which one, and why."""


class Answer(NamedTuple):
    """The document of /explain and the body of /targets, of one moment."""

    document: ExplainDocument
    targets: bytes


def ask(url: str | None, config: Path | None, filters: Filters) -> Answer:
    """The answer of the server at `url`; without one, of a look at the engines of the settings.

    Raises SourceError, and SettingsError where the settings are wrong.
    """
    return _of_server(url, filters) if url else ask_engines(load(config), filters)


class _Server(NamedTuple):
    """A server to ask. Its URL has no password in it, and is told in errors."""

    url: str
    authorization: str = ""


def _of_server(url: str, filters: Filters) -> Answer:
    server = _server(url)
    query = urlencode({name: sorted(values) for name, values in filters.items()}, doseq=True)
    document = _read(_DOCUMENT, server, _get(server, "/explain"))
    return Answer(document, _get(server, f"/targets?{query}"))


def _get(server: _Server, path: str, expected: Collection[int] = (), timeout: float = 0.0) -> bytes:
    """The body of a good answer, or of one with an expected status."""
    timeout += _TIMEOUT_SECONDS
    url = server.url + path
    try:
        request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310
        if server.authorization:
            # Whereto a server redirects is not told.
            request.add_unredirected_header("Authorization", server.authorization)
        with urllib.request.urlopen(request, timeout=timeout) as response:  # noqa: S310
            return cast("bytes", response.read())
    except urllib.error.HTTPError as error:
        with error:
            if error.code in expected:
                return error.read()
            said = " ".join(error.read(500).decode(errors="replace").split())
        if error.code == HTTPStatus.UNAUTHORIZED:
            said += f"; write {_WITH_USER}, or name a token's file in {_TOKEN_VARIABLE}"
        raise SourceError(f"{url} answered {error.code}: {said}") from None
    except http.client.InvalidURL as error:
        raise SourceError(f"{url!r} is no address of a server: {error}") from None
    except http.client.HTTPException as error:
        raise SourceError(f"{url} speaks no HTTP that can be understood: {error!r}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise SourceError(f"{url} does not answer: {reason}") from None


def wait(url: str, filters: Filters, version: str, patience: float) -> WaitDocument:
    """What the server at `url` says of the version, after `patience` s or when it is current.

    Raises SourceError.
    """
    server = _server(url)
    query = [(name, value) for name, values in filters.items() for value in sorted(values)]
    query += [("version", version), ("timeout", f"{int(patience * 1000)}ms")]
    answer = _get(server, f"/wait?{urlencode(query)}", expected=(504,), timeout=patience)
    return _read(_WAIT, server, answer)


def _server(url: str) -> _Server:
    """Whom the URL names, and what it is shown: the user in the URL, else the token of a file."""
    if not url.startswith(("http://", "https://")):
        raise SourceError(f"{url!r} is no address of a server; write http://host:9889")
    scheme, _, place = url.rstrip("/").partition("://")
    authority, slash, path = place.partition("/")
    user, _, authority = authority.rpartition("@")
    return _Server(f"{scheme}://{authority}{slash}{path}", _authorization(user))


def _authorization(user: str) -> str:
    if user:
        pair = b64encode(unquote_to_bytes(user)).decode()
        return f"Basic {pair}"
    file = os.environ.get(_TOKEN_VARIABLE)
    if not file:
        return ""
    try:
        return f"Bearer {Path(file).read_text(encoding='ascii').strip()}"
    except OSError as error:
        message = f"{_TOKEN_VARIABLE}: {file} cannot be read: {error.strerror}"
        raise SourceError(message) from None
    except UnicodeDecodeError:
        raise SourceError(f"{_TOKEN_VARIABLE}: {file} has no token alone") from None


def _read(kind: TypeAdapter[_T], server: _Server, answer: bytes) -> _T:
    try:
        return kind.validate_json(answer)
    except ValidationError:
        raise SourceError(
            f"{server.url} answered, but not as kamal-sd does; write the address of its server"
        ) from None


def ask_engines(settings: Settings, filters: Filters = _NO_FILTERS) -> Answer:
    """The answer of a look at the engines of the settings. Raises SourceError."""
    snapshots = [look_at(settings, engine) for engine in settings.engines]
    for each in settings.peers:
        try:
            told = peers.look(each)
            peer.check_hosts(told, [snapshot.host for snapshot in snapshots])
        except (peer.PeerError, ValueError) as error:
            raise SourceError(f"the kamal-sd at {each.url}: {error}") from None
        snapshots += told
    now = time.time()
    outcome = decide(snapshots, settings, now)
    document = explain(snapshots, outcome.decisions, now, outcome.conflicts)
    return Answer(document, http_sd.body(http_sd.fragments(outcome.decisions), filters))


def look_at(settings: Settings, engine: EngineSettings) -> Snapshot:
    """One engine as it is now. Raises SourceError."""
    try:
        return look(engine.host, connect(engine), readable(settings), inspects(settings))
    except EngineError as error:
        raise SourceError(
            f"the engine at {engine.url} does not answer: {error}. "
            "Name another one with DOCKER_HOST or in the settings, or ask a server with --url"
        ) from None
