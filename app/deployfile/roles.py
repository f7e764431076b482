"""What a deploy.yml says of an app: its roles and accessories, as Kamal will run them.

Facts: Kamal's `configuration/role.rb` and `accessory.rb`. Of labels a role inherits the root's; of
`options` it inherits nothing.
"""

from collections.abc import Mapping
from typing import NamedTuple

from app.deployfile import erb
from app.deployfile.document import Node


class Role(NamedTuple):
    """A role. `labels` are its own over the root's; `hosts` those that can be read.

    `tags` are the hosts that have some, each as often as it is listed.
    """

    name: str
    node: Node
    hosts: frozenset[str]
    tags: tuple[tuple[str, Node], ...]
    labels: Mapping[str, Node]
    options: Mapping[str, Node]

    def aliases(self) -> list[Node]:
        found = (self.options.get(key) for key in ("network-alias", "net-alias"))
        return [each for node in found if node for each in node.items if each.text]

    def tagged(self, tag: str) -> frozenset[str]:
        """The hosts that Kamal finds for an accessory's tag; none below `hosts:`.

        Facts: `extract_hosts_from_config_with_tag` in Kamal's `configuration/accessory.rb`. In a
        single tag it looks for a part, so it finds `one` in `stone`; in a list for a whole one.
        """
        if not isinstance(self.node.value, tuple):
            return frozenset()
        return frozenset(
            host
            for host, tags in self.tags
            if tag in tags.text or tag in {each.text for each in tags.items}
        )


class Accessory(NamedTuple):
    """An accessory; `service` is the name of its container, empty where it cannot be read.

    `tags` are those by which it names its hosts, which are among `hosts`.
    """

    name: str
    node: Node
    service: str
    hosts: frozenset[str]
    tags: tuple[Node, ...]
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
    accessories = root.at("accessories")
    below = tuple((accessories.table if accessories else {}).items())
    service = _text(root, "service")
    if printed:
        service = _text(root, "service_with_version").removesuffix("-" + _text(root, "version"))
    return App(
        root=root,
        service=service,
        destination=destination,
        roles=roles,
        accessories=tuple(
            _accessory(name, node, service, {role.name: role for role in roles})
            for name, node in below
        ),
        proxy_ports=_proxy_ports(
            root, *(role.node for role in roles), *(node for _, node in below)
        ),
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
    hosts = node if isinstance(node.value, tuple) else node.at("hosts")
    listed = hosts.items if hosts else ()
    # A host with tags is a mapping with one key.
    tags = [pair for item in listed for pair in item.table.items() if erb.UNKNOWN not in pair[0]]
    labels, own, options = root.at("labels"), node.at("labels"), node.at("options")
    return Role(
        name=name,
        node=node,
        hosts=frozenset({host for host, _ in tags} | {each.text for each in listed if each.text}),
        tags=tuple(tags),
        labels={**(labels.table if labels else {}), **(own.table if own else {})},
        options=options.table if options else {},
    )


def _accessory(name: str, node: Node, service: str, roles: Mapping[str, Role]) -> Accessory:
    own, network, options = node.at("service"), node.at("network"), node.at("options")
    hosts = {each.text for each in _texts(node, "host", "hosts")}
    for named in _texts(node, "role", "roles"):
        hosts |= roles[named.text].hosts if named.text in roles else frozenset()
    tags = _texts(node, "tag", "tags")
    for tag in tags:
        hosts = hosts.union(*(role.tagged(tag.text) for role in roles.values()))
    default = f"{service}-{name}" if service else ""
    return Accessory(
        name=name,
        node=node,
        service=own.text if own else default,
        hosts=frozenset(hosts),
        tags=tags,
        network=network.text if network else "kamal",
        aliases=_texts(options, "network-alias", "net-alias") if options else (),
    )


def _texts(node: Node, *keys: str) -> tuple[Node, ...]:
    """The texts that stand at any of the keys, alone or in a list."""
    found = (node.at(key) for key in keys)
    return tuple(each for below in found if below for each in below.items if each.text)


def _proxy_ports(*places: Node) -> Mapping[str, Node]:
    """kamal-proxy's own metrics ports (Kamal's `configuration/proxy/run.rb`)."""
    found = [each.at("proxy", "run", "metrics_port") for each in places]
    return {node.text: node for node in found if node and node.text}
