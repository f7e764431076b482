"""The metrics endpoints of a container: its role's settings, then its labels, then the defaults."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from app import grammar
from app.grammar import NamedPort
from app.model import Container, Kind, Reason, Refused, Slot
from app.settings import AddressKind, EndpointSettings, Generations, RoleSettings, Settings

_T = TypeVar("_T")

_SPELLINGS = ("prometheus.", "prometheus.io/")
_OPTIONS = ("scrape", "port", "path", "scheme", "interval", "timeout", "alias")
LABELS = frozenset(spelling + option for option in _OPTIONS for spelling in _SPELLINGS)

_INSTANCE = "{slot}:{port}"
_INSTANCE_OF_MANY_HOSTS = "{host}/{slot}:{port}"
DEFAULT_NETWORK = "kamal"
# Prometheus' default for a job. An interval below it needs a timeout of its own, or the target is
# dropped (scrape/target.go: "scrape timeout cannot be greater than scrape interval").
_DEFAULT_TIMEOUT = "10s"


class Caller(NamedTuple):
    """What whoever asks for targets wishes for them. None leaves it to the settings.

    `authority` is the `host:port` at which it reached kamal-sd, and so reaches the relay.
    """

    address: AddressKind | None = None
    generations: Generations | None = None
    authority: str = ""


class Endpoint(NamedTuple):
    """Where and how metrics are asked for. An empty text is left to the Prometheus job.

    `lane` is `next` for a candidate that is watched beside the current generation, else empty.
    `name` is the slot's managed name, empty where it has none.
    """

    port: NamedPort
    path: str
    scheme: str
    interval: str
    timeout: str
    address: AddressKind
    network: str
    alias: str
    instance: str
    generations: Generations
    labels: Mapping[str, str]
    lane: str = ""
    name: str = ""


class _Wishes:
    """The wishes for one container's endpoints, in their order of precedence."""

    def __init__(self, container: Container, kind: Kind, slot: Slot, settings: Settings) -> None:
        matching = [role for role in settings.roles if role.matches(*slot)]
        # The general first, exceptions after: of several that match, the later one wins.
        self.roles: list[RoleSettings] = matching[::-1]
        self.container_labels = container.labels
        self.defaults = settings.defaults
        self.static_labels = dict(settings.defaults.labels)
        for role in matching:
            self.static_labels.update(role.labels)
        if kind is not Kind.APP:
            # The defaults' port is the apps'. An exporter or the proxy has one of its own, or none.
            self.defaults = settings.defaults.model_copy(update={"port": None})

    def of(
        self,
        setting: Callable[[EndpointSettings], _T | None],
        label: str = "",
        read: Callable[[str], _T] | None = None,
    ) -> _T | None:
        for role in self.roles:
            if (value := setting(role)) is not None:
                return value
        for spelling in _SPELLINGS if read else ():
            text = self.container_labels.get(spelling + label)
            if read and text is not None:
                try:
                    return read(text.strip())
                except ValueError as error:
                    detail = f"the label {spelling}{label} is wrong: {error}"
                    raise Refused(Reason.BAD_ENDPOINT, detail) from None
        return setting(self.defaults)


def endpoints(container: Container, kind: Kind, slot: Slot, settings: Settings) -> list[Endpoint]:
    """One endpoint for each metrics port. Raises Refused where there is none."""
    wishes = _Wishes(container, kind, slot, settings)
    if wishes.of(lambda it: it.scrape, "scrape", grammar.boolean) is False:
        raise Refused(Reason.OPTED_OUT, "its labels or the settings say that it is not scraped")
    ports = wishes.of(lambda it: it.port, "port", grammar.ports)
    if kind is Kind.PROXY:
        ports = ports or settings.proxy.metrics_port
    if not ports:
        raise Refused(
            Reason.NO_PORT,
            'it names no metrics port; add the label prometheus.port: "9394" to the role in '
            "deploy.yml, with the port that serves its metrics",
        )
    interval = wishes.of(lambda it: it.interval, "interval", grammar.scrape_duration) or ""
    timeout = wishes.of(lambda it: it.timeout, "timeout", grammar.scrape_duration) or ""
    if interval and not timeout and grammar.duration(interval) < grammar.duration(_DEFAULT_TIMEOUT):
        timeout = interval
    if interval and timeout:
        try:
            grammar.timeout_within(timeout, interval)
        except ValueError as error:
            raise Refused(Reason.BAD_ENDPOINT, str(error)) from None
    common = Endpoint(
        port=ports[0],
        path=wishes.of(lambda it: it.path, "path", grammar.path) or "",
        scheme=wishes.of(lambda it: it.scheme, "scheme", grammar.scheme) or "",
        interval=interval,
        timeout=timeout,
        address=wishes.of(lambda it: it.address) or "auto",
        network=_network(wishes, slot.host, settings),
        alias=wishes.of(lambda it: it.alias, "alias", grammar.host_name) or "",
        instance=wishes.of(lambda it: it.instance)
        or (_INSTANCE if len(settings.engines) == 1 else _INSTANCE_OF_MANY_HOSTS),
        generations=wishes.of(lambda it: it.generations) or "current",
        labels=wishes.static_labels,
    )
    return [common._replace(port=port) for port in ports]


def _network(wishes: _Wishes, host: str, settings: Settings) -> str:
    of_role = next((role.network for role in wishes.roles if role.network), None)
    of_engine = next((engine.network for engine in settings.engines if engine.host == host), None)
    return of_role or of_engine or settings.defaults.network or DEFAULT_NETWORK
