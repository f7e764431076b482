"""The immutable values that travel through kamal-sd, from an engine's list to a target.

Times are seconds since the Unix epoch, as floats, on this machine's clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple


class State(StrEnum):
    """A container's state, in the engine's spelling."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


class Health(StrEnum):
    """What the image's HEALTHCHECK says; NONE where there is none."""

    NONE = "none"
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


class Network(NamedTuple):
    """A container's place on one network. An address is empty where it has none.

    `aliases` are the names that it was given there, beside its own; None where nobody looked.
    """

    name: str
    ipv4: str = ""
    ipv6: str = ""
    aliases: tuple[str, ...] | None = None


class Port(NamedTuple):
    """An exposed port. `public` is the host's port, None where it is not published.

    `public_ip` is the address that it is published on, 0.0.0.0 or :: where it is all of them, and
    empty where the engine does not say.
    """

    private: int
    protocol: str
    public: int | None = None
    public_ip: str = ""


@dataclass(frozen=True, slots=True)
class Container:
    """One container as an engine shows it.

    `since` is when its present state began: the last start of a running container, the last stop
    of a stopped one. Where it was read from the list's rounded status text it is the latest time
    that fits, and the truth may lie up to `since_error` seconds before it. `stopping` says that it
    runs still, and was told to stop.

    `fault` says why the engine's entry could not be read; all that could not be read is empty.
    """

    id: str
    name: str = ""
    image: str = ""
    state: State = State.DEAD
    since: float = 0.0
    since_error: float = 0.0
    stopping: bool = False
    created: float = 0.0
    health: Health = Health.NONE
    labels: Mapping[str, str] = field(default_factory=dict)
    network_mode: str = ""
    networks: tuple[Network, ...] = ()
    ports: tuple[Port, ...] = ()
    fault: str = ""

    def on(self, network: str) -> Network | None:
        """Its place on the network of that name; None where it is not on it."""
        return next((each for each in self.networks if each.name == network), None)

    @property
    def running(self) -> bool:
        """A paused container counts: it holds its address, and `up` shall say that it is mute."""
        return self.state in (State.RUNNING, State.PAUSED)

    @property
    def stopped(self) -> bool:
        """It ran, and does not run now. A container that was only created is neither."""
        return not self.running and self.state is not State.CREATED


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All of an engine's containers at one time.

    `listed_at` is the time of the last good full list, None before the first. `lost_at` is the last
    moment at which the engine was heard, None while it is being heard; `error` says why not.
    `alias_error` says why aliases that shall be known are not.
    `incumbents` are the ids that the last decision made current: the memory of the incumbent rule.
    `active` are the short ids (12 digits) to which kamal-proxy sends the traffic of each slot, by
    the slot's name; empty where its state is not read.
    `peer` is the other kamal-sd that watches the engine; None where it is watched from here.
    """

    host: str
    containers: Mapping[str, Container] = field(default_factory=lambda: MappingProxyType({}))
    listed_at: float | None = None
    lost_at: float | None = None
    error: str = ""
    alias_error: str = ""
    incumbents: frozenset[str] = frozenset()
    active: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))
    events: int = 0
    reconnects: int = 0
    peer: "Peer | None" = None

    @property
    def up(self) -> bool:
        """Whether the engine is being heard: it was listed, and not lost since."""
        return self.listed_at is not None and self.lost_at is None

    def as_of(self, now: float) -> float:
        """The time up to which this snapshot is known to hold: time stands still in an outage."""
        return now if self.lost_at is None else min(now, self.lost_at)


class Slot(NamedTuple):
    """The place of a Kamal role on a host. It outlives its containers.

    An accessory and kamal-proxy have a slot too, with an empty role.
    """

    host: str
    service: str
    role: str = ""
    destination: str = ""

    @property
    def name(self) -> str:
        """`service[-role[-destination]]`, as Kamal begins its containers' names."""
        return "-".join(part for part in (self.service, self.role, self.destination) if part)

    def fill(self, template: str, **more: object) -> str:
        """A checked template of the settings with this slot's values in its places."""
        return template.format(**{"slot": self.name} | self._asdict() | more)


class Kind(StrEnum):
    """What a container is to Kamal."""

    APP = "app"
    ACCESSORY = "accessory"
    PROXY = "proxy"
    ONE_OFF = "one-off"
    FOREIGN = "foreign"


class Reason(StrEnum):
    """Why a container is a target, or is none. The values are a public interface."""

    CURRENT = "current"
    KEPT = "kept"

    CANDIDATE = "candidate"
    SUPERSEDED = "superseded"
    STOPPED = "stopped"
    EXPIRED = "expired"
    NOT_STARTED = "not-started"

    FOREIGN = "foreign"
    ONE_OFF = "one-off"
    NOT_ENABLED = "not-enabled"
    OPTED_OUT = "opted-out"
    NO_PORT = "no-port"

    BAD_LABEL = "bad-label"
    BAD_ENDPOINT = "bad-endpoint"
    NO_ADDRESS = "no-address"
    ALIAS_CONFLICT = "alias-conflict"
    DUPLICATE = "duplicate"
    UNREADABLE = "unreadable"


# Why something that runs, or would, is no target although it shall be one: each can be mended.
FAULTS = frozenset(
    {
        Reason.BAD_LABEL,
        Reason.BAD_ENDPOINT,
        Reason.NO_ADDRESS,
        Reason.ALIAS_CONFLICT,
        Reason.DUPLICATE,
        Reason.UNREADABLE,
    }
)


class Refused(Exception):  # noqa: N818 - a decision, not an error of the program
    """Raised on the way to a target where there can be none, with the reason for it."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Upstream(NamedTuple):
    """Where the relay finds the metrics of a container: an address that it holds now.

    With `is_peer` it is the relay of another kamal-sd, which knows the container that is current.
    """

    authority: str
    scheme: str
    path: str
    is_peer: bool = False


class AliasConflict(NamedTuple):
    """An alias of a role on one network, and the containers of several places that answer to it."""

    host: str
    network: str
    alias: str
    answering: tuple["Decision", ...]

    @property
    def strangers(self) -> list["Decision"]:
        """Those that are not of the first one's place."""
        return [each for each in self.answering if each.place != self.answering[0].place]


class TargetGroup(NamedTuple):
    """One entry of the HTTP SD list."""

    targets: tuple[str, ...]
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Decision:
    """A container's target, or the reason why it has none.

    `slot` is None for a container that is in none. A container with several metrics ports has a
    decision for each. `detail` is a sentence for people: what is so, and what to do about it.
    `upstream` is what stands behind a target that the relay serves; None where nothing runs.
    """

    host: str
    container: Container
    kind: Kind
    reason: Reason
    detail: str
    slot: Slot | None = None
    version: str = ""
    target: TargetGroup | None = None
    upstream: Upstream | None = None

    @property
    def place(self) -> object:
        """What its names and its targets belong to: its slot, or itself where it is in none."""
        return self.slot or self.container.id


class Peer(NamedTuple):
    """What another kamal-sd has decided of one of its engines. It is not decided again.

    `is_relay` says that its roles are scraped through this kamal-sd, and so through both relays.
    """

    url: str
    decisions: tuple[Decision, ...] = ()
    conflicts: tuple[AliasConflict, ...] = ()
    is_relay: bool = False
