"""How a container is reached: by an alias, its live IP or its host, and where by the relay."""

from contextlib import suppress
from typing import NamedTuple

from app import grammar
from app.discovery.aliases import Answering
from app.discovery.endpoint import Endpoint
from app.discovery.published import host_of, published_at
from app.model import Container, Decision, Network, Reason, Refused, Slot, Upstream
from app.settings import AddressKind, EngineSettings

_HOST_NETWORK = "host"


class Address(NamedTuple):
    """Where a scraper finds a container: `host:port`, of that kind. `note` is for people."""

    kind: AddressKind
    authority: str
    note: str = ""


def address_of(
    generation: Decision,
    endpoint: Endpoint,
    slot: Slot,
    engine: EngineSettings,
    answering: Answering | None = None,
) -> Address:
    """The address that serves. Raises Refused where there is none.

    `answering` says who answers to which alias; without it that is not checked.
    """
    if endpoint.address == "published":
        return _published(generation, endpoint, engine)
    container, port = generation.container, endpoint.port.number
    has_alias = endpoint.alias or endpoint.name
    wants_alias = endpoint.address == "alias" or (endpoint.address == "auto" and has_alias)
    is_on_host = container.network_mode == _HOST_NETWORK
    if endpoint.address == "auto" and not engine.is_on_this_host and not is_on_host:
        # Neither its IP nor its alias is known beyond the networks of its own host.
        with suppress(Refused):
            return _published(generation, endpoint, engine)
    if endpoint.address == "alias" and endpoint.lane:
        raise Refused(
            Reason.NO_ADDRESS,
            "an alias cannot tell it from the current one; set address to relay or ip",
        )
    if not wants_alias or endpoint.lane or (is_on_host and endpoint.address != "alias"):
        return Address("ip", join(_live_host(container, endpoint, engine), port))
    if endpoint.name:
        return Address("alias", join(endpoint.name, port))
    if answering is None:
        _network_named(endpoint.network, container)
        return Address("alias", join(_alias(endpoint, slot), port))
    return _verified(generation, endpoint, slot, answering)


def _published(generation: Decision, endpoint: Endpoint, engine: EngineSettings) -> Address:
    port = endpoint.port.number
    if generation.container.network_mode == _HOST_NETWORK:
        return Address("published", join(host_of(engine), port))
    return Address("published", join(*published_at(generation, port, engine)))


def _verified(
    generation: Decision, endpoint: Endpoint, slot: Slot, answering: Answering
) -> Address:
    """The alias where it is the slot's alone. With `auto` the IP takes its place, else Refused."""
    port = endpoint.port.number
    network = _network_named(endpoint.network, generation.container)
    alias = "" if endpoint.alias else answering.best_of(generation, network)
    alias = alias or _alias(endpoint, slot)
    objection = answering.objection(generation, network, alias)
    is_unknown = network.aliases is None or answering.is_partial
    note = objection.detail if objection else answering.note(generation, network, alias)
    if is_unknown and not objection:
        note = f"who answers to {alias} is not known"
    if endpoint.address == "auto" and (objection or is_unknown):
        return Address("ip", join(_ip(network), port), f"its IP is served: {note}")
    if objection:
        raise objection
    # Whoever asked for it by name keeps it: an engine that tells nothing removes no target.
    return Address("alias", join(alias, port), note)


def upstream_of(container: Container, endpoint: Endpoint, engine: EngineSettings) -> Upstream:
    """Where the relay finds the metrics of a container. Raises Refused where it has no address."""
    return Upstream(
        authority=join(_live_host(container, endpoint, engine), endpoint.port.number),
        scheme=endpoint.scheme or "http",
        path=endpoint.path or "/metrics",
    )


def join(host: str, port: int) -> str:
    """`host:port`, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def nowhere(slot: Slot, port: int) -> str:
    """An address for a slot in which nothing runs.

    It cannot reach another container: no resolver answers for `.invalid` (RFC 6761), whereas the
    IP that the container had is given to the next one that starts, within seconds.
    """
    name = "".join(char if char.isascii() and char.isalnum() else "-" for char in slot.name)
    return f"{name[:63].strip('-') or 'slot'}.invalid:{port}"


def _live_host(container: Container, endpoint: Endpoint, engine: EngineSettings) -> str:
    if container.network_mode == _HOST_NETWORK:
        return _address_of_host(engine)
    return _ip(_network_named(endpoint.network, container))


def _address_of_host(engine: EngineSettings) -> str:
    if engine.address:
        return engine.address
    raise Refused(
        Reason.NO_ADDRESS,
        "it is on the host's network, and the host's address is not known; "
        "set address for the engine in the settings",
    )


def _network_named(name: str, container: Container) -> Network:
    if network := container.on(name):
        return network
    others = ", ".join(network.name for network in container.networks)
    raise Refused(
        Reason.NO_ADDRESS,
        f"it is not on the network {name}; "
        + (f"it is on {others}: set network to the right one" if others else "it is on none"),
    )


def _ip(network: Network) -> str:
    if address := network.ipv4 or network.ipv6:
        return address
    raise Refused(Reason.NO_ADDRESS, f"it has no address on the network {network.name}")


def _alias(endpoint: Endpoint, slot: Slot) -> str:
    if not endpoint.alias:
        raise Refused(
            Reason.NO_ADDRESS,
            "it shall be reached by an alias, and none is known; "
            "set alias in the settings, or the label prometheus.alias",
        )
    try:
        return grammar.host_name(slot.fill(endpoint.alias))
    except ValueError as error:
        raise Refused(Reason.NO_ADDRESS, f"its alias is wrong: {error}") from None
