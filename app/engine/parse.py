"""The engine's JSON -> Container and Event, once. Whatever an entry holds, it costs that entry.

Shapes: moby's `api/types` (`Container`, `events.Message`) from API 1.41 to 1.52, and Podman's
compatible API, where lists and maps may be null.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from ipaddress import ip_address
from itertools import takewhile
from typing import NamedTuple

from app.model import Container, Health, Network, Port, State

Readable = Callable[[str], bool]

# A value that is cut to this length is still too long for a label that must be whole.
_MAX_VALUE = 2048

# So many digits of an id are a name of the container in the engine's DNS.
_SHORT_ID = 12
_ID = re.compile(r"[0-9a-zA-Z_.-]{1,128}", re.ASCII)
# go-units' HumanDuration, as in "Up 53 seconds (healthy)" or "Exited (137) About an hour ago".
_STATUS_AGE = re.compile(
    r"(?:Up|Exited \(-?\d+\)|Restarting \(-?\d+\)) "
    r"(?:(?P<none>Less than a second)|About an? (?P<one>minute|hour)"
    r"|(?P<number>\d{1,9}) (?P<unit>second|minute|hour|day|week|month|year)s?)",
    re.ASCII,
)
_STATUS_HEALTH = re.compile(r"\((healthy|unhealthy|health: starting)\)")
_UNIT_SECONDS = {
    "second": 1,
    "minute": 60,
    "hour": 3600,
    "day": 86_400,
    "week": 604_800,
    "month": 2_592_000,
    "year": 31_536_000,
}
_HALF_HOUR = 1800
# HUP, USR1 and USR2 ask a process for something else than its end.
_OTHER_SIGNALS = frozenset({"1", "10", "12"})
# Longer than any container has run.
_UNKNOWN = 1e9


class Event(NamedTuple):
    """What happened to which container. Nothing else of an event is kept: it may hold secrets."""

    action: str
    container_id: str


def containers(entries: object, now: float, readable: Readable) -> tuple[Container, ...]:
    """The body of `GET /containers/json`. Raises TypeError where it is no list at all."""
    if not isinstance(entries, list):
        raise TypeError(f"the engine's list of containers is a {type(entries).__name__}")
    return tuple(_container(number, entry, now, readable) for number, entry in enumerate(entries))


def aliases(entry: object) -> dict[str, tuple[str, ...]]:
    """The aliases on each network of `GET /containers/ID/json`. Raises TypeError or ValueError.

    From API 1.45 on, `DNSNames` has all that the container answers to, and before, `Aliases` has:
    its short id and its host name, too, which are no aliases. In `Aliases` the ones that were asked
    for come first, so that one which is spelled as the host name is told from it.
    Nothing else of the entry is kept: it holds the container's environment.
    """
    container = _mapping(entry)
    host_name = _text(_mapping(container.get("Config")).get("Hostname"))
    short_id, name = _text(container.get("Id"))[:_SHORT_ID], _text(container.get("Name"))
    own = {short_id, name.removeprefix("/"), host_name}
    networks = _mapping(_mapping(container.get("NetworkSettings")).get("Networks"))
    return {
        name: _aliases(_mapping(endpoint), short_id, own) for name, endpoint in networks.items()
    }


def _aliases(
    endpoint: Mapping[str, object], short_id: str, own: Collection[str]
) -> tuple[str, ...]:
    given = takewhile(lambda name: name != short_id, _names(endpoint.get("Aliases")))
    answered = set(_names(endpoint.get("DNSNames"))) - set(own)
    return tuple(sorted({*given, *answered} - {""}))


def _names(names: object) -> list[str]:
    if not isinstance(names, list | None):
        raise TypeError(f"a {type(names).__name__} where a list of names is expected")
    return [_text(name)[:_MAX_VALUE] for name in names or ()]


def event(entry: object) -> Event | None:
    """An object of `GET /events`; None where it is about no container, or of no account.

    A `kill` is one that asks for the end: `docker stop` begins with it. Podman never tells which
    signal it was, and its `stop` tells no `kill`, so there it says nothing.
    """
    if not isinstance(entry, dict):
        return None
    actor = entry.get("Actor")
    if not isinstance(actor, dict):
        return None
    attributes = actor.get("Attributes")
    attributes = attributes if isinstance(attributes, dict) else {}
    about, action = actor.get("ID"), entry.get("Action")
    is_podman = "podId" in attributes
    if entry.get("Type") == "network" and not is_podman:
        # Podman's actor is the container, and Docker's the network.
        about = attributes.get("container")
    signal = attributes.get("signal")
    if action == "kill" and (signal in _OTHER_SIGNALS or (signal is None and is_podman)):
        return None
    if not (isinstance(action, str) and isinstance(about, str) and _ID.fullmatch(about)):
        return None
    # "health_status: healthy" and "exec_create: sh -c …": what follows the colon is not needed.
    return Event(action.partition(":")[0], about)


def _container(number: int, entry: object, now: float, readable: Readable) -> Container:
    identity = entry.get("Id") if isinstance(entry, dict) else None
    if not (isinstance(identity, str) and _ID.fullmatch(identity)):
        return Container(id=f"entry {number}", fault="it has no Id")
    assert isinstance(entry, dict)  # noqa: S101 - it has an Id
    try:
        return _read(identity, entry, now, readable)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        return Container(id=identity, fault=f"{type(error).__name__}: {error}"[:200])


def _read(identity: str, entry: Mapping[str, object], now: float, readable: Readable) -> Container:
    status = _text(entry.get("Status"))
    state = State(_text(entry.get("State")).lower())
    created = float(_number(entry.get("Created")))
    since, since_error = _since(status, created, now)
    return Container(
        id=identity,
        name=_name(entry.get("Names")),
        image=_text(entry.get("Image"))[:_MAX_VALUE],
        state=state,
        since=created if state is State.CREATED else since,
        since_error=since_error,
        created=created,
        health=_health(entry.get("Health"), status),
        labels={
            _text(name): _text(value)[:_MAX_VALUE]
            for name, value in _mapping(entry.get("Labels")).items()
            if readable(name)
        },
        network_mode=_text(_mapping(entry.get("HostConfig")).get("NetworkMode")),
        networks=tuple(_networks(_mapping(entry.get("NetworkSettings")).get("Networks"))),
        ports=tuple(_ports(entry.get("Ports"))),
    )


def _since(status: str, created: float, now: float) -> tuple[float, float]:
    """The latest time at which the state can have begun, and how much earlier it can have."""
    match = _STATUS_AGE.match(status)
    if match is None:
        return min(created, now), _UNKNOWN
    if match["none"]:
        return now, 1
    unit = _UNIT_SECONDS[match["one"] or match["unit"]]
    age = unit * int(match["number"] or 1)
    # Hours are rounded to the nearest one, all else is cut off. An hour begins at sixty minutes.
    rounding = _HALF_HOUR if unit >= _UNIT_SECONDS["hour"] else 0
    least = max(age - rounding, unit) if rounding else age
    return now - least, unit + rounding


def _health(reported: object, status: str) -> Health:
    # From API 1.52 on the list says it; before, its status text does.
    if isinstance(reported, dict):
        return Health(reported.get("Status") or Health.NONE)
    match = _STATUS_HEALTH.search(status)
    return Health(match[1].removeprefix("health: ")) if match else Health.NONE


def _networks(networks: object) -> Iterable[Network]:
    for name, endpoint in sorted(_mapping(networks).items()):
        addresses = _mapping(endpoint)
        yield Network(
            _text(name),
            ipv4=_address(addresses.get("IPAddress")),
            ipv6=_address(addresses.get("GlobalIPv6Address")),
        )


def _address(value: object) -> str:
    text = _text(value)
    if "%" in text:
        raise ValueError(f"{text!r} is an address of one host alone")
    return str(ip_address(text)) if text else ""


def _ports(ports: object) -> Iterable[Port]:
    if not isinstance(ports, list | None):
        raise TypeError("Ports is no list")
    for port in map(_mapping, ports or ()):
        public = port.get("PublicPort")
        yield Port(
            private=_number(port.get("PrivatePort")),
            protocol=_text(port.get("Type")),
            public=_number(public) if public else None,
            public_ip=_address(port.get("IP")),
        )


def _name(names: object) -> str:
    """The container's own name: a legacy link puts further ones beside it, with two slashes."""
    own = [
        name.removeprefix("/")
        for name in map(_text, names if isinstance(names, list) else ())
        if "/" not in name.removeprefix("/")
    ]
    return own[0] if own else ""


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        value.encode()  # JSON can hold half a surrogate pair, and no answer of ours could
        return value
    raise TypeError(f"{type(value).__name__} where a text is expected")


def _number(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise TypeError(f"{type(value).__name__} where a number is expected")


def _mapping(value: object) -> Mapping[str, object]:
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    raise TypeError(f"{type(value).__name__} where a map is expected")
