"""What a deploy.yml says of an app: its roles and accessories, as Kamal will run them.

Facts: Kamal's `configuration/role.rb` and `accessory.rb`. Of labels a role inherits the root's; of
`options` it inherits nothing.
"""

from collections.abc import Mapping
from typing import NamedTuple

from app.deployfile import erb
from app.deployfile.document import Node


class Role(NamedTuple):
    """A role. `labels` are its own over the root's; `hosts` those that can be read."""

    name: str
    node: Node
    hosts: frozenset[str]
    labels: Mapping[str, Node]
    options: Mapping[str, Node]

    def aliases(self) -> list[Node]:
        found = (self.options.get(key) for key in ("network-alias", "net-alias"))
        return [each for node in found if node for each in node.items if each.text]


class Accessory(NamedTuple):
    """An accessory; `service` is the name of its container, empty where it cannot be read."""

    name: str
    node: Node
    service: str
    hosts: frozenset[str]
    network: str
    aliases: tuple[Node, ...]


class App(NamedTuple):
    """What one deploy.yml says, merged with that of a destination, or of none."""

    root: Node
    service: str
    destination: str
    roles: tuple[Role, ...]
    accessories: tuple[Accessory, ...]
    proxy_ports: Mapping[str, Node]
    printed: bool

    @property
    def shown(self) -> str:
        return f"destination {self.destination}" if self.destination else "no destination"


def app_of(root: Node, destination: str = "") -> App:
    """The app of a merged document, or of what `kamal config` printed (`printed`)."""
    # Only its output has these two; Kamal refuses them in a deploy.yml.
    printed = root.at("roles") is not None and root.at("service_with_version") is not None
    roles = () if printed else _roles(root)
    service = _text(root, "service")
    if printed:
        service = _text(root, "service_with_version").removesuffix("-" + _text(root, "version"))
    accessories = root.at("accessories")
    return App(
        root=root,
        service=service,
        destination=destination,
        roles=roles,
        accessories=tuple(
            _accessory(name, node, service, {role.name: role for role in roles})
            for name, node in (accessories.table if accessories else {}).items()
        ),
        proxy_ports=_proxy_ports(root, roles),
        printed=printed,
    )


def _text(root: Node, key: str) -> str:
    node = root.at(key)
    return node.text if node else ""


def _roles(root: Node) -> tuple[Role, ...]:
    servers = root.at("servers")
    if servers is None:
        return ()
    if isinstance(servers.value, tuple):
        return (_role("web", servers, root),)
    return tuple(_role(name, node, root) for name, node in servers.table.items())


def _role(name: str, node: Node, root: Node) -> Role:
    hosts = node.at("hosts") if isinstance(node.value, Mapping) else node
    labels, own, options = root.at("labels"), node.at("labels"), node.at("options")
    return Role(
        name=name,
        node=node,
        hosts=_hosts(hosts),
        labels={**(labels.table if labels else {}), **(own.table if own else {})},
        options=options.table if options else {},
    )


def _hosts(node: Node | None) -> frozenset[str]:
    """The hosts of a list; one with tags is a mapping with one key."""
    found: set[str] = set()
    for item in node.items if node else ():
        found.update([item.text] if item.text else item.table)
    return frozenset(host for host in found if erb.UNKNOWN not in host)


def _accessory(name: str, node: Node, service: str, roles: Mapping[str, Role]) -> Accessory:
    own, network, options = node.at("service"), node.at("network"), node.at("options")
    hosts: set[str] = set()
    for key in ("host", "hosts"):
        hosts |= _hosts(node.at(key))
    for key in ("role", "roles"):
        for role in (node.at(key) or Node("", 0, None)).items:
            hosts |= roles[role.text].hosts if role.text in roles else frozenset()
    alias = options.at("network-alias") if options else None
    default = f"{service}-{name}" if service else ""
    return Accessory(
        name=name,
        node=node,
        service=own.text if own else default,
        hosts=frozenset(hosts),
        network=network.text if network else "kamal",
        aliases=tuple(each for each in (alias.items if alias else ()) if each.text),
    )


def _proxy_ports(root: Node, roles: tuple[Role, ...]) -> Mapping[str, Node]:
    """kamal-proxy's own metrics ports (Kamal's `configuration/proxy/run.rb`)."""
    found = [each.at("proxy", "run", "metrics_port") for each in (root, *(r.node for r in roles))]
    return {node.text: node for node in found if node and node.text}
