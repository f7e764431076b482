"""What is fed with bytes: each function takes any, and raises where kamal-sd would fail."""

import json
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from app import peers, settings_file, web_config
from app.deployfile import document, lint, roles
from app.discovery import http_sd, peer, relay
from app.discovery.decide import decide
from app.discovery.explain import explain
from app.discovery.peer import PeerError
from app.engine import ledger, parse, proxy_state
from app.model import Snapshot
from app.settings_file import SettingsError
from tests import http_sd_reader
from tests.builders import NOW, settings

# Where files are written to be read.
FOLDER = Path(tempfile.gettempdir())
SETTINGS = settings(engines=[{"url": "unix:///a", "host": "a"}], aliases={"verify": True})


def containers(data: bytes) -> None:
    """A list of containers, up to the answer that is made of it."""
    try:
        found = parse.containers(_json(data), NOW, lambda _: True)
    except TypeError:
        return
    _serve(ledger.listed(Snapshot("a"), found, NOW))


def inspect(data: bytes) -> None:
    """A container as it is inspected."""
    with suppress(TypeError, ValueError):
        parse.aliases(_json(data))


def event(data: bytes) -> None:
    """An object of the stream of events, and what follows from it."""
    found = parse.event(_json(data))
    if found:
        snapshot = ledger.died(Snapshot("a", listed_at=NOW), found.container_id, NOW)
        _serve(ledger.told_to_stop(snapshot, found.container_id))


def settings_yaml(data: bytes) -> None:
    """A file of settings."""
    with suppress(SettingsError):
        settings_file.load(_file(data), environ={})


def web_config_yaml(data: bytes) -> None:
    """A web config file."""
    with suppress(SettingsError):
        web_config.load(_file(data))


def peer_json(data: bytes) -> None:
    """What another kamal-sd says, up to the answer that is made of it."""
    for is_relay in (False, True):
        try:
            said = peers._read(data)
            found = peer.snapshots(said, "http://b:9889", (), NOW, is_relay=is_relay)
            peer.check_hosts(found, ())
        except (PeerError, ValueError):
            return
        _serve(*found)


def proxy_state_json(data: bytes) -> None:
    """kamal-proxy's state."""
    with suppress(ValueError, RecursionError):
        proxy_state.parse(data)


def deploy_yaml(data: bytes) -> None:
    """A deploy.yml, and what is said of it."""
    with suppress(document.UnreadableError, UnicodeDecodeError):
        root = document.read("deploy.yml", data.decode())
        lint.findings([roles.app_of(root)])


def _serve(*snapshots: Snapshot) -> None:
    decisions = decide(snapshots, SETTINGS, NOW).decisions
    relay.routes(decisions)
    http_sd_reader.read(http_sd.body(http_sd.fragments(decisions), {}))
    json.dumps(explain(snapshots, decisions, NOW)).encode()


def _json(data: bytes) -> Any:
    # What json itself refuses is docker-py's to refuse.
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return []


def _file(data: bytes) -> Path:
    path = FOLDER / "fuzzed.yml"
    path.write_bytes(data)
    return path


TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = MappingProxyType(
    {
        each.__name__.removesuffix("_yaml").removesuffix("_json"): each
        for each in (
            containers,
            inspect,
            event,
            settings_yaml,
            web_config_yaml,
            peer_json,
            proxy_state_json,
            deploy_yaml,
        )
    }
)
