"""What labels and names mean to Kamal: which container is what, its slot and its version.

Facts: Kamal's `configuration/role.rb` (names and labels of app containers), `accessory.rb` and
`commands/app/assets.rb`. A one-off or an asset container has only the labels of its image.
"""

import re

from app.model import Container, Kind, Slot

SERVICE = "service"
ROLE = "role"
DESTINATION = "destination"
IMAGE_TITLE = "org.opencontainers.image.title"

_PROXY_TITLE = "kamal-proxy"
# Kamal renames a running container out of the way when its version is deployed again.
_REPLACED = re.compile(r"_replaced_[0-9a-f]{16}\Z")


def kind_of(container: Container) -> Kind:
    """Told by labels alone; a name is compared, never taken apart."""
    service = container.labels.get(SERVICE)
    if service and container.labels.get(ROLE):
        return Kind.APP
    if container.labels.get(IMAGE_TITLE) == _PROXY_TITLE:
        return Kind.PROXY
    if service:
        return Kind.ACCESSORY if service == container.name else Kind.ONE_OFF
    return Kind.FOREIGN


def slot_of(host: str, container: Container, kind: Kind) -> Slot:
    """The slot of an app container, an accessory or kamal-proxy."""
    labels = container.labels
    if kind is Kind.PROXY:
        return Slot(host, _PROXY_TITLE)
    return Slot(host, labels[SERVICE], labels.get(ROLE, ""), labels.get(DESTINATION, ""))


def version_of(container: Container, slot: Slot) -> str:
    """The version that Kamal deployed; empty where the container does not tell.

    It is what follows the slot in the name. Where the user's labels or name do not fit each other,
    it is the tag of the image, which Kamal gives the version too.
    """
    prefix = f"{slot.name}-"
    if slot.role and container.name.startswith(prefix):
        return _REPLACED.sub("", container.name.removeprefix(prefix))
    repository, colon, tag = container.image.rpartition(":")
    is_digest = repository.rpartition("@")[2] == "sha256"
    return tag if colon and repository and "/" not in tag and not is_digest else ""
