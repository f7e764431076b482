"""The labels of a target: plain ones from the slot alone, `__meta_` ones from its container.

Prometheus makes a time series of the plain labels, so nothing in them may change with a deploy. It
drops the `__meta_` labels after relabelling, so they hold all that does.
"""

import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase

from app.discovery import endpoint as endpoint_labels
from app.discovery import kamal
from app.discovery.endpoint import Endpoint
from app.model import Container, Decision, Reason, Refused, Slot
from app.settings import Settings

# Longer label values than these are somebody's mistake or malice; they are cut, or refused where
# they would name a time series.
MAX_VALUE = 1024
_MAX_NAME = 200

_NAMED = frozenset({kamal.SERVICE, kamal.ROLE, kamal.DESTINATION, kamal.IMAGE_TITLE})
_NOT_IN_A_LABEL_NAME = re.compile(r"[^a-zA-Z0-9_]", re.ASCII)


def readable(settings: Settings) -> Callable[[str], bool]:
    """Which container labels are read at all: those with a meaning here, and the allow-list's."""
    named = _NAMED | endpoint_labels.LABELS
    patterns = settings.container_labels

    def is_readable(name: str) -> bool:
        return name in named or any(fnmatchcase(name, pattern) for pattern in patterns)

    return is_readable


def check_slot(slot: Slot) -> None:
    """Raises Refused for a slot whose values cannot be trusted to name a time series."""
    for name, value in slot._asdict().items():
        if not value.isprintable():
            raise Refused(
                Reason.BAD_LABEL,
                f"its label {name} has a character that cannot be printed: {value[:40]!a}",
            )
        if len(value) > _MAX_NAME:
            raise Refused(
                Reason.BAD_LABEL, f"its label {name} is longer than {_MAX_NAME} characters"
            )


def plain_labels(slot: Slot, endpoint: Endpoint) -> dict[str, str]:
    """What the time series are made of."""
    labels = dict(endpoint.labels)
    places: dict[str, object] = {"port": endpoint.port.number, "port_name": endpoint.port.name}
    if endpoint.lane:
        labels["generation"] = endpoint.lane
        places["slot"] = f"{slot.name}.{endpoint.lane}"
    labels["instance"] = slot.fill(endpoint.instance, **places)
    labels |= {name: value for name, value in slot._asdict().items() if value}
    return labels


def scrape_labels(endpoint: Endpoint) -> dict[str, str]:
    """How Prometheus scrapes the target. What is not given is left to the job."""
    labels = {
        "__metrics_path__": endpoint.path,
        "__scheme__": endpoint.scheme,
        "__scrape_interval__": endpoint.interval,
        "__scrape_timeout__": endpoint.timeout,
    }
    return {name: value for name, value in labels.items() if value}


def meta_labels(
    slot: Slot, generation: Decision, endpoint: Endpoint, address: str
) -> dict[str, str]:
    """What changes with a deploy, for relabelling. The docker ones are spelled as docker_sd's."""
    container = generation.container
    labels = {
        "__meta_kamal_kind": generation.kind,
        "__meta_kamal_slot": slot.name,
        "__meta_kamal_host": slot.host,
        "__meta_kamal_service": slot.service,
        "__meta_kamal_role": slot.role,
        "__meta_kamal_destination": slot.destination,
        "__meta_kamal_version": generation.version,
        "__meta_kamal_state": container.state,
        "__meta_kamal_health": container.health,
        "__meta_kamal_address": address,
        "__meta_kamal_port_name": endpoint.port.name,
        "__meta_docker_container_id": container.id,
        "__meta_docker_container_name": f"/{container.name}",
        "__meta_docker_container_image": container.image,
        "__meta_docker_container_network_mode": container.network_mode,
        "__meta_docker_network_name": endpoint.network,
        "__meta_docker_network_ip": _ip_on(endpoint.network, container),
        "__meta_docker_port_private": str(endpoint.port.number),
    }
    labels |= _published(container, endpoint.port.number)
    labels |= _container_labels(container.labels)
    return {name: scrub(value) for name, value in labels.items() if value}


def scrub(value: str) -> str:
    """A value that every reader of the answer can take."""
    cut = value[:MAX_VALUE]
    return cut if cut.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in cut)


def _container_labels(labels: Mapping[str, str]) -> dict[str, str]:
    return {
        "__meta_docker_container_label_" + _NOT_IN_A_LABEL_NAME.sub("_", name): labels[name]
        for name in sorted(labels)
    }


def _ip_on(name: str, container: Container) -> str:
    return next(
        (network.ipv4 or network.ipv6 for network in container.networks if network.name == name), ""
    )


def _published(container: Container, port: int) -> dict[str, str]:
    for each in container.ports:
        if each.private == port and each.public is not None:
            return {
                "__meta_docker_port_public": str(each.public),
                "__meta_docker_port_public_ip": each.public_ip,
            }
    return {}
