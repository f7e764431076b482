"""The small grammars that settings and container labels share. Each raises ValueError, in words."""

import re
from collections.abc import Iterable
from ipaddress import IPv6Address
from string import Formatter
from typing import Literal, NamedTuple, cast, get_args

# Prometheus' own: common/model/time.go
_DURATION = re.compile(
    "".join(rf"(?:(\d{{1,9}}){unit})?" for unit in ("y", "w", "d", "h", "m", "s", "ms")), re.ASCII
)
_DURATION_SECONDS = (31_536_000, 604_800, 86_400, 3_600, 60, 1, 0.001)
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
_DIGITS = re.compile(r"\d{1,5}", re.ASCII)
_PORT_NAME = re.compile(r"[a-zA-Z0-9_-]{1,63}", re.ASCII)
_HOST_NAME = re.compile(r"(?!.*\.\.)[a-zA-Z0-9_](?:[a-zA-Z0-9_.-]{0,251}[a-zA-Z0-9_])?", re.ASCII)
_MAX_PORT = 65_535
_MAX_PATH = 1024
_MAX_DURATION_SECONDS = 9_223_372_036  # Prometheus counts nanoseconds in 64 bits


Scheme = Literal["http", "https"]


class NamedPort(NamedTuple):
    """A metrics port, and the name that tells it from a second one of the same container."""

    number: int
    name: str = ""


def duration(text: str) -> float:
    """Seconds of a duration in Prometheus' spelling, such as `90s`, `1m30s` or `500ms`."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or not text.strip():
        raise ValueError(f"{text!r} is no duration; write it like 30s, 1m30s or 1h")
    seconds = sum(
        int(number) * unit
        for number, unit in zip(match.groups(), _DURATION_SECONDS, strict=True)
        if number
    )
    if seconds > _MAX_DURATION_SECONDS:
        raise ValueError(f"{text!r} is longer than the 292 years that Prometheus can count")
    return seconds


def scrape_duration(text: str) -> str:
    """A scrape interval or timeout, checked: Prometheus drops a target where it is zero."""
    if duration(text) <= 0:
        raise ValueError(f"{text!r} must be longer than nothing")
    return text.strip()


def timeout_within(timeout: str, interval: str) -> None:
    """Prometheus drops a target whose timeout is the longer of the two."""
    if duration(timeout) > duration(interval):
        raise ValueError(f"timeout {timeout} is longer than interval {interval}; shorten it")


def ports(text: str) -> tuple[NamedPort, ...]:
    """Metrics ports, such as `9394`, or `9394, puma=9395` where there are several."""
    found = tuple(_port(part.strip()) for part in text.split(","))
    for attribute in ("number", "name"):
        values = [getattr(port, attribute) for port in found if getattr(port, attribute)]
        if len(set(values)) < len(values):
            raise ValueError(f"{text!r} gives one {attribute} to two ports")
    return found


def _port(text: str) -> NamedPort:
    name, _, number = text.rpartition("=")
    name = name.strip()
    if name and not _PORT_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name for a port; use letters, digits, _ and -")
    number = number.strip()
    if not (_DIGITS.fullmatch(number) and 0 < int(number) <= _MAX_PORT):
        raise ValueError(
            f"{number!r} is no port; write a number from 1 to {_MAX_PORT}, "
            "or several as 9394, puma=9395"
        )
    return NamedPort(int(number), name)


def path(text: str) -> str:
    """An URL path for `__metrics_path__`. Prometheus escapes a `?` in it, so that is refused."""
    if len(text) > _MAX_PATH:
        raise ValueError(f"{text[:40]!r}... is no path; it is longer than {_MAX_PATH} characters")
    if not text.startswith("/"):
        raise ValueError(f"{text!r} is no path; it must begin with a slash, like /metrics")
    if not text.isprintable() or set(text) & set(" ?#"):
        raise ValueError(
            f"{text!r} is no path; leave out spaces, ? and # (a parameter is a label: __param_name)"
        )
    return text


def scheme(text: str) -> Scheme:
    """`http` or `https`."""
    for known in get_args(Scheme):
        if text == known:
            return cast("Scheme", known)
    raise ValueError(f"{text!r} is no scheme for a scrape; write http or https")


def boolean(text: str) -> bool:
    """`true` or `false`, as a label spells them."""
    try:
        return {"true": True, "false": False}[text.strip().lower()]
    except KeyError:
        raise ValueError(f'{text!r} is neither "true" nor "false"') from None


def host_name(text: str) -> str:
    """A name that a resolver can be asked for."""
    if not _HOST_NAME.fullmatch(text):
        raise ValueError(f"{text!r} is no host name; use letters, digits, dots, _ and -")
    return text


def authority(text: str) -> str:
    """The `host:port` at which a server is reached; an IPv6 address is in brackets."""
    host, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdecimal() or not 0 < int(port) <= _MAX_PORT:
        raise ValueError(f"{text!r} has no port; write it like kamal-sd:9889")
    if host.startswith("[") and host.endswith("]"):
        if IPv6Address(host[1:-1]).scope_id:
            raise ValueError(f"{host[1:-1]!r} is an address of one host alone")
    else:
        host_name(host)
    return text


def printable(text: str) -> str:
    """A text that every reader of an answer can take."""
    if not text.isprintable():
        raise ValueError(f"{text!r} has a character that cannot be printed")
    return text


def label_name(text: str) -> str:
    """A label name that Prometheus 2 takes, too."""
    if not _LABEL_NAME.fullmatch(text):
        raise ValueError(f"{text!r} is no label name; use letters, digits and _, no digit first")
    return text


def template(text: str, fields: Iterable[str]) -> str:
    """A text with `{field}` places, checked against the fields that can be filled in."""
    known = tuple(fields)
    printable(text)
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"{text!r} has a brace that does not close: {error}") from None
    for _, name, spec, conversion in parts:
        if name is not None and (name not in known or spec or conversion):
            wanted = ", ".join(f"{{{field}}}" for field in known)
            raise ValueError(f"{text!r} has the place {{{name}}}; it can have {wanted}")
    if not text:
        raise ValueError("is empty; leave the key out instead")
    return text
