"""The rules: what in a deploy.yml leads to trouble with Prometheus, and what to write instead."""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from app import grammar
from app.deployfile import erb
from app.deployfile.document import Node
from app.deployfile.roles import App, Role

SPELLINGS = ("prometheus.", "prometheus.io/")
_READERS = {
    "port": grammar.ports,
    "path": grammar.path,
    "scheme": grammar.scheme,
    "scrape": grammar.boolean,
    "interval": grammar.scrape_duration,
    "timeout": grammar.scrape_duration,
    "alias": grammar.host_name,
}
_RESERVED = ("service", "role", "destination")
_PUBLISHED = ("publish", "p")

Severity = Literal["error", "warning"]


class Finding(NamedTuple):
    """One thing that is wrong, where, why, and the lines to write instead."""

    file: str
    line: int
    severity: Severity
    rule: str
    why: str
    instead: tuple[str, ...] = ()


class Held(NamedTuple):
    """A name that a container on the engine answers to; `holder` says who, in words."""

    network: str
    name: str
    holder: str


class _Name(NamedTuple):
    """A name that something in the files will answer to on its hosts."""

    name: str
    node: Node
    hosts: frozenset[str]
    network: str
    holder: str
    is_alias: bool


def findings(apps: Sequence[App], held: Sequence[Held] = ()) -> list[Finding]:
    """All findings of a deploy.yml: the first is what was asked for, the rest its siblings.

    `held` are the names on an engine that belong to other containers than those of the first.
    """
    app = apps[0]
    found = [each for role in app.roles for each in _of_role(app, role)]
    found += _reserved_labels(app)
    found += _lost_tags(app)
    found += _shared_aliases(apps)
    found += _held_aliases(app, held)
    return sorted(set(found), key=lambda each: (each.file, each.line, each.rule))


def _of_role(app: App, role: Role) -> Iterator[Finding]:
    yield from _name_option(role)
    yield from _publish(role)
    yield from _network(role)
    yield from _bad_labels(role)
    yield from _port(app, role)


def _finding(node: Node, severity: Severity, rule: str, why: str, *instead: str) -> Finding:
    return Finding(node.file, node.line, severity, rule, why, instead)


def _name_option(role: Role) -> Iterator[Finding]:
    if node := role.options.get("name"):
        yield _finding(
            node,
            "error",
            "option-name",
            f"role {role.name}: Kamal finds its containers by the names that it gives them, and "
            "loses one with another name; use an alias",
            "options:",
            f"  network-alias: {node.text or 'NAME'}",
        )


def _publish(role: Role) -> Iterator[Finding]:
    for key in _PUBLISHED:
        for node in role.options[key].items if key in role.options else ():
            ip_and_public, colon, private = node.text.rpartition(":")
            public = ip_and_public.rpartition(":")[2]
            # Of a range for one port each container takes the next free one.
            is_range = "-" in public and "-" not in private
            if colon and public and not is_range:
                yield _finding(
                    node,
                    "error",
                    "fixed-publish",
                    f"role {role.name}: at a deploy the old container still has this port, and the "
                    "new one cannot start; kamal-sd needs none, and finds any that is published",
                    "options:",
                    f'  publish: "{private}"   # a free port of the host, or leave it out',
                )


def _network(role: Role) -> Iterator[Finding]:
    for key in ("network", "net"):
        node = role.options.get(key)
        if node and node.text == "host":
            yield _finding(
                node,
                "error",
                "network-host",
                f"role {role.name}: on the host's network the old and the new container of a "
                "deploy want the same ports, and neither has an address of its own; take this out",
            )


def _reserved_labels(app: App) -> Iterator[Finding]:
    for place in (app.root, *(role.node for role in app.roles)):
        labels = place.at("labels")
        for name in _RESERVED if labels else ():
            if labels and (node := labels.at(name)):
                yield _finding(
                    node,
                    "error",
                    "reserved-label",
                    f"the label {name} takes the place of Kamal's own, by which Kamal and kamal-sd "
                    "find the containers; give it another name",
                    "labels:",
                    f'  app.{name}: "{node.text}"',
                )


def _lost_tags(app: App) -> Iterator[Finding]:
    for accessory in app.accessories:
        for tag in accessory.tags:
            for role in app.roles:
                has = {
                    host
                    for host, tags in role.tags
                    if tag.text in {each.text for each in tags.items}
                }
                if hosts := has - accessory.hosts:
                    yield _finding(
                        tag,
                        "error",
                        "lost-tag",
                        f"accessory {accessory.name}: Kamal looks for a tag only in roles that are "
                        f"plain lists of hosts. Role {role.name} has its own below hosts:, so the "
                        f"accessory is not on {', '.join(sorted(hosts)[:3])}; name hosts or roles",
                        "hosts:",
                        *(f"  - {host}" for host in sorted(accessory.hosts | hosts)),
                    )


def _bad_labels(role: Role) -> Iterator[Finding]:
    for option, reader in _READERS.items():
        for spelling in SPELLINGS:
            node = role.labels.get(spelling + option)
            if node is None or node.unknown:
                continue
            try:
                reader(node.text.strip())
            except ValueError as error:
                yield _finding(
                    node,
                    "error",
                    "bad-label",
                    f"role {role.name}: the label {spelling}{option} is wrong: {error}",
                )


def _port(app: App, role: Role) -> Iterator[Finding]:
    scrape = label(role, "scrape")
    if scrape and scrape.text.strip().lower() == "false":
        return
    port = label(role, "port")
    if port is None:
        if not _labels_known(app, role):
            return
        yield _finding(
            role.node,
            "warning",
            "no-metrics-port",
            f"role {role.name} names no metrics port, so it is no target; with the port that "
            "serves its metrics, write",
            *labels_to_add(app, role),
        )
        return
    try:
        numbers = [each.number for each in grammar.ports(port.text.strip())]
    except ValueError:
        return
    for number in numbers:
        if proxy := app.proxy_ports.get(str(number)):
            yield _finding(
                port,
                "warning",
                "proxy-port",
                f"role {role.name}: {number} is kamal-proxy's own metrics port "
                f"({proxy.file}:{proxy.line}), which knows nothing of the app; name the port on "
                "which the app itself serves metrics",
                "labels:",
                '  prometheus.port: "PORT"',
            )


def _labels_known(app: App, role: Role) -> bool:
    places = (app.root.at("servers"), role.node, app.root.at("labels"), role.node.at("labels"))
    whole = not any(place.unknown for place in places if place)
    return whole and not any(erb.UNKNOWN in name for name in role.labels)


def label(role: Role, option: str) -> Node | None:
    """The role's label of that option, in the spelling that kamal-sd prefers."""
    found = (role.labels.get(spelling + option) for spelling in SPELLINGS)
    return next((node for node in found if node), None)


def labels_to_add(app: App, role: Role) -> list[str]:
    """The lines that make the role a target, for its place below `servers:`."""
    port = '    prometheus.port: "9394"'
    if isinstance(role.node.value, tuple):
        lines = [f"{role.name}:", "  hosts:"]
        if any(role.tagged(tag.text) for each in app.accessories for tag in each.tags):
            # Else the accessory would be on no host, and Kamal would not say so.
            lines.insert(
                1, "  # Kamal finds no tags in this form: give the accessory `hosts:` for `tag:`."
            )
        for item in role.node.value:
            lines += [
                f"    - {host}: [{', '.join(each.text or '…' for each in tags.items)}]"
                for host, tags in item.table.items()
            ]
            if not item.table:
                lines.append(f"    - {item.text or '…'}")
        return [*lines, "  labels:", port]
    return [f"{role.name}:", "  labels:", port]


def _names(app: App) -> Iterator[_Name]:
    for role in app.roles:
        for node in role.aliases():
            holder = f"role {role.name} ({app.shown})"
            yield _Name(node.text, node, role.hosts, "kamal", holder, is_alias=True)
    for each in app.accessories:
        holder = f"accessory {each.name}"
        if each.service:
            yield _Name(each.service, each.node, each.hosts, each.network, holder, is_alias=False)
        for node in each.aliases:
            yield _Name(node.text, node, each.hosts, each.network, holder, is_alias=True)


def _shared_aliases(apps: Sequence[App]) -> Iterator[Finding]:
    everyone = [each for app in apps if _is_deployed(app) for each in _names(app)]
    for position, later in enumerate(everyone):
        for earlier in everyone[:position]:
            if (
                earlier.name != later.name
                or earlier.network != later.network
                or earlier.holder == later.holder
                or not earlier.hosts & later.hosts
                # A name of its own, the app has it in every destination.
                or not (earlier.is_alias or later.is_alias)
            ):
                continue
            at, other = (later, earlier) if later.is_alias else (earlier, later)
            where = ", ".join(sorted(earlier.hosts & later.hosts)[:3])
            yield _finding(
                at.node,
                "error",
                "shared-alias",
                f"{at.name} is answered by {at.holder} and by {other.holder} "
                f"({other.node.file}:{other.node.line}) on {where}: who asks for it gets now the "
                "one, now the other; give each its own",
                "options:",
                f"  network-alias: {at.name}-OTHER",
            )


def _is_deployed(app: App) -> bool:
    """Kamal refuses to deploy such a file without a destination."""
    required = app.root.at("require_destination")
    return bool(app.destination) or not required or required.text != "true"


def _held_aliases(app: App, held: Sequence[Held]) -> Iterator[Finding]:
    for mine in _names(app):
        for other in held:
            if mine.is_alias and (mine.name, mine.network) == (other.name, other.network):
                yield _finding(
                    mine.node,
                    "error",
                    "held-alias",
                    f"{mine.name}, an alias of {mine.holder}, is answered on the engine by "
                    f"{other.holder}; give it a name that is free",
                    "options:",
                    f"  network-alias: {mine.name}-OTHER",
                )
