"""The relay's side of a target: one steady path a slot and port, and what stands behind it now."""

import re
from collections.abc import Iterable, Mapping

from app.discovery.endpoint import Caller
from app.model import Decision, Slot, TargetGroup
from app.settings import Settings

PREFIX = "/scrape/"
# How a target is reached, and at which path.
ADDRESS, PATH = "__meta_kamal_address", "__metrics_path__"
NEXT = "next"

# Whatever reads a target writes these characters into an URL as they are: Prometheus escapes a
# path, vmagent does not.
_PLAIN = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", re.ASCII)
_EMPTY = "-"

Routes = Mapping[str, Decision]


def path_of(slot: Slot, port: int, lane: str) -> str:
    """The path at which the relay serves a slot's port: no two of them have the same one."""
    parts = [*map(_part, slot), str(port), *([lane] if lane else [])]
    return PREFIX + "/".join(parts)


def authority(settings: Settings, caller: Caller) -> str:
    """Where the caller reaches the relay, as `host:port`."""
    # Nobody is told the last one but who looks at this very machine.
    return settings.relay.address or caller.authority or f"localhost:{settings.listen_port}"


def routes(decisions: Iterable[Decision]) -> Routes:
    """The decisions whose targets are the relay's, by their paths."""
    return {
        decision.target.labels[PATH]: decision
        for decision in decisions
        if decision.target and is_relayed(decision.target)
    }


def is_relayed(target: TargetGroup) -> bool:
    """Whether scrapes of the target go through the relay."""
    return target.labels[ADDRESS] == "relay"


def _part(text: str) -> str:
    if not text:
        return _EMPTY
    return text if _PLAIN.fullmatch(text) else f"~{text.encode().hex()}"
