"""Who answers to a network alias. Docker gives a name to all who ask for it, and warns nobody."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from app import grammar
from app.discovery.naming import MARK
from app.model import AliasConflict, Container, Decision, Kind, Network, Reason, Refused
from app.settings import Settings


def inspects(settings: Settings) -> Callable[[Container], bool]:
    """Whose aliases shall be known.

    Of those that can answer to one, where they are verified, and where kamal-sd has a network of
    its own, of all that are on it.
    """
    aliases = settings.aliases

    def is_inspected(container: Container) -> bool:
        is_member = aliases.manage and container.on(aliases.network) is not None
        return is_member or (aliases.verify and container.running)

    return is_inspected


class _Name(NamedTuple):
    network: str
    name: str


class Answering:
    """Who answers to which name, of one engine's containers.

    A container answers to its own name as well as to its aliases. Which aliases one has that
    nobody inspected is not known, and it holds none here. `is_partial` says that it is so of one
    at least.
    """

    def __init__(self, containers: Iterable[Decision], *, is_partial: bool = False) -> None:
        self.is_partial = is_partial
        self._by_name: dict[_Name, list[Decision]] = {}
        self._aliases: set[_Name] = set()
        for each in containers:
            if each.container.running:
                self._add(each)

    def _add(self, decision: Decision) -> None:
        container = decision.container
        for network in container.networks:
            aliases = {alias for alias in network.aliases or () if alias != MARK}
            for name in {*aliases, container.name}:
                self._by_name.setdefault(_Name(network.name, name), []).append(decision)
            if decision.kind is Kind.APP:
                self._aliases.update(_Name(network.name, alias) for alias in aliases)

    def best_of(self, decision: Decision, network: Network) -> str:
        """Of a container's own aliases, one that nobody else answers to, or the first of all.

        Empty where it has none that a resolver can be asked for.
        """
        own = [alias for alias in network.aliases or () if _is_host_name(alias)]
        alone = (alias for alias in own if not self.objection(decision, network, alias))
        return next(alone, own[0] if own else "")

    def objection(self, decision: Decision, network: Network, alias: str) -> Refused | None:
        """Why that alias is no way to that container; None where it is its slot's alone."""
        own = network.aliases
        if own is not None and alias not in own and alias != decision.container.name:
            answers = f"it answers to {', '.join(own)}" if own else "it has none there"
            return Refused(
                Reason.NO_ADDRESS,
                f"it does not answer to the alias {alias} on the network {network.name}; {answers}",
            )
        others = self._others(decision, network, alias)
        strangers = [each for each in others if each.place != decision.place]
        if not strangers:
            return None
        return Refused(
            Reason.ALIAS_CONFLICT,
            f"the alias {alias} is answered by {named(strangers)}, too; {advice(strangers)}",
        )

    def note(self, decision: Decision, network: Network, alias: str) -> str:
        """What is to be known of an alias that is the slot's alone."""
        others = self._others(decision, network, alias)
        if not others:
            return ""
        runs = "runs, both" if len(others) == 1 else "run, all"
        return f"while {named(others)} {runs} answer to {alias}"

    def _others(self, decision: Decision, network: Network, alias: str) -> Sequence[Decision]:
        answering = self._by_name.get(_Name(network.name, alias), ())
        return [each for each in answering if each.container is not decision.container]

    def conflicts(self, host: str) -> Iterator[AliasConflict]:
        """The aliases of roles to which containers of several places answer."""
        for name in sorted(self._aliases):
            answering = self._by_name[name]
            if len({each.place for each in answering}) > 1:
                answering = sorted(answering, key=lambda each: each.kind is not Kind.APP)
                yield AliasConflict(host, name.network, name.name, tuple(answering))


def named(decisions: Iterable[Decision]) -> str:
    """Those containers, for a sentence."""
    return ", ".join(_words(each) for each in decisions)


def advice(strangers: Iterable[Decision]) -> str:
    """What to do about others that answer to a role's alias."""
    if all(each.kind is Kind.ONE_OFF for each in strangers):
        return "a one-off has its role's options; kamal app exec --reuse starts none"
    return "give each an alias of its own in deploy.yml (options: network-alias)"


def _is_host_name(alias: str) -> bool:
    try:
        grammar.host_name(alias)
    except ValueError:
        return False
    return True


def _words(decision: Decision) -> str:
    name = decision.container.name or decision.container.id[:12]
    return f"{name} ({decision.kind})" if decision.slot is None else name
