"""How a container is reached: by a network alias or by its live IP, and where by the relay."""

from app import grammar
from app.discovery.endpoint import Endpoint
from app.model import Container, Network, Reason, Refused, Slot, Upstream
from app.settings import AddressKind, EngineSettings

_HOST_NETWORK = "host"


def address_of(
    container: Container, endpoint: Endpoint, slot: Slot, engine: EngineSettings
) -> tuple[AddressKind, str]:
    """The kind of the address that serves, and `host:port`. Raises Refused where there is none."""
    wants_alias = endpoint.address == "alias" or (endpoint.address == "auto" and endpoint.alias)
    is_on_host = container.network_mode == _HOST_NETWORK
    if endpoint.address == "alias" and endpoint.lane:
        raise Refused(
            Reason.NO_ADDRESS,
            "an alias cannot tell it from the current one; set address to relay or ip",
        )
    if not wants_alias or endpoint.lane or (is_on_host and endpoint.address != "alias"):
        return "ip", join(_live_host(container, endpoint, engine), endpoint.port.number)
    _network_named(endpoint.network, container)
    return "alias", join(_alias(endpoint, slot), endpoint.port.number)


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
    for network in container.networks:
        if network.name == name:
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
