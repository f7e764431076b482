"""`address: published`: where a container's host passes its metrics port on."""

from ipaddress import ip_address

from app.model import Decision, Kind, Reason, Refused
from app.settings import EngineSettings

_MAX_PORT = 65_535
# Two generations run during a deploy, and each needs a port of its own; some are free for more.
_RANGE = 5


def published_at(generation: Decision, port: int, engine: EngineSettings) -> tuple[str, int]:
    """The address and the port at which others reach that port. Raises Refused where none do.

    An address of the host's that the port is published on is the one. Where it is published on all
    of them, it is the one at which the host is reached.
    """
    bindings = sorted(
        (each.public_ip, each.public)
        for each in generation.container.ports
        if (each.private, each.protocol) == (port, "tcp") and each.public is not None
    )
    if not bindings:
        raise Refused(Reason.NO_ADDRESS, _not_published(generation.kind, port))
    outward = [each for each in bindings if not _is_loopback(each[0])]
    if not outward:
        raise Refused(
            Reason.NO_ADDRESS,
            f"its port {port} is published on {_named(bindings)} only, which nobody outside "
            "reaches; publish it on 0.0.0.0, or on an address of the host that Prometheus reaches",
        )
    for ip, public in outward:
        if not _is_any(ip):
            return ip, public
    host = host_of(engine)
    version = _version(host)
    for ip, public in outward:
        # A name may have addresses of both kinds, and Podman does not say which ones it means.
        if not version or not ip or _version(ip) == version:
            return host, public
    raise Refused(
        Reason.NO_ADDRESS,
        f"its port {port} is published on {_named(outward)} only, and the address of its host, "
        f"{host}, is IPv{version}; publish it on that, too, or set another address for the engine",
    )


def host_of(engine: EngineSettings) -> str:
    """The address at which others reach the engine's host. Raises Refused where none is known."""
    if engine.reached_at:
        return engine.reached_at
    raise Refused(
        Reason.NO_ADDRESS,
        "the address of its host is not known; set address for the engine in the settings",
    )


def _not_published(kind: Kind, port: int) -> str:
    first = min(port, _MAX_PORT - _RANGE)
    if kind is Kind.APP:
        mend = (
            f'add options: {{publish: "{first}-{first + _RANGE}:{port}"}} to the role in '
            "deploy.yml, a range because two of it run during a deploy"
        )
    else:
        mend = f'publish it, as options: {{publish: "{port}:{port}"}} does for an accessory'
    return f"its port {port} is not published on the host; {mend}"


def _named(bindings: list[tuple[str, int]]) -> str:
    return ", ".join(sorted({ip for ip, _ in bindings}))


def _is_loopback(ip: str) -> bool:
    return bool(ip) and ip_address(ip).is_loopback


def _is_any(ip: str) -> bool:
    return not ip or ip_address(ip).is_unspecified


def _version(host: str) -> int:
    """4 or 6; 0 for a name."""
    try:
        return ip_address(host).version
    except ValueError:
        return 0
