"""What can be set, and what each value must be. There is no global instance."""

import re
from collections.abc import Mapping
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from app import grammar
from app.grammar import NamedPort, Scheme

ENVIRONMENT_PREFIX = "KAMAL_SD_"
DEFAULT_ENGINE_URL = "unix:///var/run/docker.sock"

# Plain labels that kamal-sd itself gives. A static label of that name would break promise 1.
_OWN_LABELS = frozenset({"instance", "service", "role", "destination", "host", "generation"})
_SLOT_FIELDS = ("slot", "service", "role", "destination", "host")
# What secures an engine goes with its URL.
_SCHEME_OF = {"tls": "tcp:", "ssh": "ssh:"}
_INSTANCE_FIELDS = ("port", "port_name", *_SLOT_FIELDS)

# No password, and in the socket's path nothing that has a meaning to ssh.
_SSH_URL = re.compile(
    r"ssh://([\w.+-]+@)?(\w[\w.-]*|\[[0-9a-fA-F:.]+])(:[1-9]\d*)?(/[\w./@+-]*)?", re.ASCII
)


def _seconds(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is no time; write it like 30s, or as a number of seconds")  # noqa: TRY004
    return grammar.duration(value) if isinstance(value, str) else value


def _scrape_duration(value: object) -> object:
    return grammar.scrape_duration(_numbers_are_text(value))


def _numbers_are_text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"{value!r} must be a text")


def _ports(value: object) -> object:
    if isinstance(value, list):
        return grammar.ports(",".join(map(_numbers_are_text, value)))
    return grammar.ports(_numbers_are_text(value))


def _static_label(name: str) -> str:
    grammar.label_name(name)
    if name in _OWN_LABELS:
        raise ValueError(f"kamal-sd gives the label {name} itself; choose another name")
    if name.startswith("__") and not name.startswith("__param_"):
        raise ValueError(f"{name!r} is reserved; only __param_<name> may begin with __")
    return name


def _engine_url(url: str) -> str:
    parts = urlsplit(grammar.printable(url))
    if parts.scheme == "unix" and parts.path.startswith("/"):
        return url
    if parts.scheme == "tcp" and parts.hostname and parts.port:
        return url
    # Its port is looked at: it raises ValueError where there is no such one.
    if _SSH_URL.fullmatch(url) and parts.port != 0:
        return url
    raise ValueError(
        f"{url!r} is no engine; write unix:///path/to/socket, tcp://host:port or ssh://user@host"
    )


def _not_empty(value: object) -> object:
    # Whoever writes the key wants TLS: an empty one must not mean none.
    if value is None:
        raise ValueError("is empty; write {} for TLS with the system's CAs, or take it away")
    return value


def _peer_url(url: str) -> str:
    parts = urlsplit(url)
    if (
        parts.scheme in ("http", "https")
        and parts.hostname
        and not (parts.query or parts.fragment or "@" in url)
    ):
        return url.rstrip("/")
    raise ValueError(f"{url!r} is no kamal-sd; write http://host:9889")


def _host_address(text: str) -> str:
    try:
        return str(ip_address(text)) if text else ""
    except ValueError:
        return grammar.host_name(text)


def _is_reached_by_others(host: str) -> bool:
    """Whether it can be the address of a host, and is not that of a tunnel's end on this one."""
    try:
        address = _host_address(host)
    except ValueError:
        return False
    return not address.startswith("127.") and address not in ("", "localhost", "::1")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(address: str) -> str:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"{address!r} is no address to listen at; write it like 0.0.0.0:9889")
    grammar.ports(port)
    return address


def _relay_address(address: str) -> str:
    return grammar.authority(address) if address else ""


Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0, allow_inf_nan=False)]
ScrapeDuration = Annotated[str, BeforeValidator(_scrape_duration)]
Ports = Annotated[tuple[NamedPort, ...], BeforeValidator(_ports)]
MetricsPath = Annotated[str, AfterValidator(grammar.path)]
Instance = Annotated[str, AfterValidator(partial(grammar.template, fields=_INSTANCE_FIELDS))]
Alias = Annotated[str, AfterValidator(partial(grammar.template, fields=_SLOT_FIELDS))]
StaticLabels = Mapping[
    Annotated[str, AfterValidator(_static_label)],
    Annotated[str, BeforeValidator(_numbers_are_text), AfterValidator(grammar.printable)],
]
AddressKind = Literal["auto", "alias", "ip", "published", "relay"]
Generations = Literal["current", "both"]


class _Checked(BaseModel):
    # Built at once: several threads use them.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=False)


class EndpointSettings(_Checked):
    """How a role's metrics are reached and labelled. What is None is left to the next in line."""

    scrape: bool | None = None
    port: Ports | None = None
    path: MetricsPath | None = None
    scheme: Scheme | None = None
    interval: ScrapeDuration | None = None
    timeout: ScrapeDuration | None = None
    address: AddressKind | None = None
    network: str | None = None
    alias: Alias | None = None
    instance: Instance | None = None
    generations: Generations | None = None
    labels: StaticLabels = Field(default_factory=dict)

    @model_validator(mode="after")
    def _timeout_within_interval(self) -> Self:
        if self.interval and self.timeout:
            grammar.timeout_within(self.timeout, self.interval)
        return self


class RoleSettings(EndpointSettings):
    """Settings for the slots that have all the values given; one left out matches every value."""

    host: str | None = None
    service: str | None = None
    role: str | None = None
    destination: str | None = None

    def matches(self, host: str, service: str, role: str, destination: str) -> bool:
        """Whether the entry is about that slot."""
        return all(
            wanted is None or wanted == value
            for wanted, value in (
                (self.host, host),
                (self.service, service),
                (self.role, role),
                (self.destination, destination),
            )
        )


class TlsSettings(_Checked):
    """TLS to an engine at tcp://: PEM files, read at each connection. Without `ca`: the system's.

    `cert` and `key` are the client's, where the engine asks for them.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @model_validator(mode="after")
    def _key_of_cert(self) -> Self:
        if bool(self.cert) != bool(self.key):
            raise ValueError("has one of cert and key; they go together")
        return self


class SshSettings(_Checked):
    """Files for an engine at ssh:// that take the place of the user's."""

    key: Path | None = None
    known_hosts: Path | None = None


class EngineDefaults(_Checked):
    """What may hold for several engines alike. What is of one alone stands in EngineSettings."""

    network: str | None = None
    timeout: Seconds = 10.0
    tls: Annotated[TlsSettings | None, BeforeValidator(_not_empty)] = None
    ssh: SshSettings | None = None

    def fitting(self, url: str) -> dict[str, object]:
        """What was given of these, and an engine at that URL can have."""
        return {
            name: getattr(self, name)
            for name in self.model_fields_set
            if url.startswith(_SCHEME_OF.get(name, ""))
        }


class EngineSettings(EngineDefaults):
    """One engine. `host` names it in labels; `address` is where others reach that host."""

    url: Annotated[str, AfterValidator(_engine_url)]
    host: Annotated[str, Field(max_length=200), AfterValidator(grammar.printable)] = ""
    address: Annotated[str, AfterValidator(_host_address)] = ""

    @model_validator(mode="after")
    def _secured_as_its_url(self) -> Self:
        if self.tls and not self.url.startswith("tcp:"):
            raise ValueError("has tls, which is for tcp:// alone")
        if self.ssh and not self.is_over_ssh:
            raise ValueError("has ssh, which is for ssh:// alone")
        return self

    @property
    def is_over_ssh(self) -> bool:
        """Whether it is reached through a tunnel."""
        return self.url.startswith("ssh:")

    @property
    def host_in_url(self) -> str:
        """The name or IP in the URL; empty for a socket."""
        return urlsplit(self.url).hostname or ""

    @property
    def is_named_by_url(self) -> bool:
        """Whether others reach the host as the URL does: it is no socket and no end of a tunnel."""
        return _is_reached_by_others(self.host_in_url)

    @property
    def reached_at(self) -> str:
        """The IP or name at which others reach its host, as far as that is known, else empty."""
        if self.address or self.is_named_by_url:
            return self.address or self.host_in_url
        return self.host if _is_reached_by_others(self.host) else ""

    @property
    def is_on_this_host(self) -> bool:
        """Whether it is reached at a socket, and so its containers at their IPs, as a rule."""
        return self.url.startswith("unix:")


class PeerSettings(_Checked):
    """Another kamal-sd, which is asked every `interval` seconds for what it has decided.

    With `relay` its roles are scraped through this one. `ca` is a file with the certificates that
    an https `url` is checked with; the system's where there is none. It is shown the token of
    `token_file`, or `username` and the password of `password_file`, which are read for each asking.
    """

    url: Annotated[str, AfterValidator(_peer_url)]
    interval: Seconds = 5.0
    timeout: Seconds = 10.0
    relay: bool = False
    ca: Path | None = None
    token_file: Path | None = None
    username: str = ""
    password_file: Path | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, given: object) -> object:
        return {"url": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if bool(self.username) != bool(self.password_file):
            raise ValueError("has one of username and password_file; they go together")
        if self.username and self.token_file:
            raise ValueError("has token_file and username; keep one")
        return self


class AliasSettings(_Checked):
    """Network aliases: whether the engine is asked who answers to them.

    With `manage` kamal-sd gives each slot a name of its own on its own Docker `network`.
    """

    verify: bool = False
    manage: bool = False
    network: Annotated[str, AfterValidator(grammar.host_name)] = "kamal-sd"


class ProxySettings(_Checked):
    """kamal-proxy: the port of its own metrics, and the file in which it keeps its state."""

    metrics_port: Ports | None = None
    state_file: Path | None = None


class RelaySettings(_Checked):
    """Scrapes through kamal-sd itself. `address` is where a scraper reaches it, as host:port.

    `scheme` is how; https where nothing is set and `web_config` has TLS.
    `timeout` counts where the scraper names none; `max_size` is in bytes, as they are sent.
    """

    address: Annotated[str, AfterValidator(_relay_address)] = ""
    scheme: Scheme = "http"
    timeout: Seconds = 10.0
    max_size: Annotated[int, Field(gt=0)] = 64 * 1024 * 1024


class ReloadSettings(_Checked):
    """When the settings are read anew, beside SIGHUP: `http` is POST /-/reload."""

    http: bool = False
    watch: bool = True


class Settings(BaseSettings):
    """Everything that can be set. `config.example.yml` says what each is for."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    listen: Annotated[str, AfterValidator(_listen)] = "0.0.0.0:9889"
    web_config: Path | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    data_dir: Path | None = None
    engine_defaults: EngineDefaults = EngineDefaults()
    engines: tuple[EngineSettings, ...] = ()
    peers: tuple[PeerSettings, ...] = ()
    startup_grace: Seconds = 30.0
    resync_interval: Seconds = 60.0
    overlap_limit: Seconds = 90.0
    keep_missing: Seconds = 3600.0
    defaults: EndpointSettings = EndpointSettings()
    roles: tuple[RoleSettings, ...] = ()
    accessories: bool = False
    aliases: AliasSettings = AliasSettings()
    proxy: ProxySettings = ProxySettings()
    relay: RelaySettings = RelaySettings()
    file_sd: Path | None = None
    container_labels: tuple[str, ...] = ()
    reload: ReloadSettings = ReloadSettings()

    @field_validator("engines", mode="before")
    @classmethod
    def _with_defaults(cls, engines: object, info: ValidationInfo) -> object:
        """Each with engine_defaults for what it does not set itself. A text is its URL."""
        # Defaults that are wrong are not there, and told of at their own place.
        defaults: EngineDefaults = info.data.get("engine_defaults", EngineDefaults())
        if not isinstance(engines, list | tuple):
            return engines
        named = ({"url": each} if isinstance(each, str) else each for each in engines)
        return [
            {**defaults.fitting(str(each.get("url", ""))), **each}
            if isinstance(each, dict)
            else each
            for each in named
        ]

    @property
    def addresses(self) -> frozenset[AddressKind]:
        """The kinds of address that targets may have."""
        of_roles = (role.address for role in self.roles if role.address)
        return frozenset([self.defaults.address or "auto", *of_roles])

    def may_relay(self, wish: AddressKind | None) -> bool:
        """Whether any target may be the relay's, for a caller with that wish."""
        kinds = {wish} if wish else self.addresses
        is_here = any(engine.is_on_this_host for engine in self.engines)
        is_chained = any(peer.relay for peer in self.peers)
        return is_chained or "relay" in kinds or ("auto" in kinds and is_here)

    @property
    def engine_of_this_host(self) -> EngineSettings | None:
        """The only engine, or of several the only one that is reached at a socket of this host."""
        local = [each for each in self.engines if each.is_on_this_host]
        candidates = self.engines if len(self.engines) == 1 else local
        return candidates[0] if len(candidates) == 1 else None

    @property
    def listen_host(self) -> str:
        """The address to bind, without brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def is_heard_here_alone(self) -> bool:
        """Whether nobody on another machine reaches it."""
        host = self.listen_host
        return host == "localhost" or _is_loopback(host)

    @property
    def listen_port(self) -> int:
        """The TCP port to bind."""
        return int(self.listen.rpartition(":")[2])
