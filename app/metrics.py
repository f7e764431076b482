"""kamal-sd's own metrics: a collector that reads the state when it is scraped."""

from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from functools import cache
from typing import NamedTuple

from prometheus_client import (
    CollectorRegistry,
    ProcessCollector,
    Summary,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client import (
    Counter as CounterMetric,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from app import __revision__, __version__
from app.discovery.history import Deploys
from app.discovery.labels import scrub
from app.model import Decision, Reason, Slot, Snapshot
from app.state import State
from app.view import View

_SLOT_STATES = ("current", "deploying", "down", "refused")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The registry of one server, and its text."""

    def __init__(self, state: State) -> None:
        # They double the series of counters, and Prometheus' text format has no use for them.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._registry.register(_StateCollector(state))
        ProcessCollector(registry=self._registry)
        self.relay = RelayMetrics(state, self._registry)
        self.requests = RequestMetrics(self._registry)

    def text(self) -> bytes:
        """The exposition, in Prometheus' text format (CONTENT_TYPE)."""
        self.relay.forget_gone()
        return generate_latest(self._registry)


class RequestMetrics:
    """How long requests took. There are as many series as routes and statuses."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Summary(
            "kamal_sd_http_request_duration_seconds",
            "How long requests took, by the path as it is documented and the status.",
            ["handler", "code"],
            registry=registry,
        )
        self._of = cache(self._seconds.labels)

    def observe(self, handler: str, code: int, seconds: float) -> None:
        """Counts one request."""
        self._of(handler, code).observe(seconds)


class RelayResult(StrEnum):
    """How a scrape through the relay ended. The values are a public interface."""

    OK = "ok"
    HANDED_OVER = "handed-over"
    DOWN = "down"
    BROKEN = "broken"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    HUNG_UP = "hung-up"
    UNKNOWN = "unknown"


class _RelaySeries(NamedTuple):
    """A slot's series: its scrapes by their result, its bytes, and how long they took."""

    scrapes: dict[RelayResult, CounterMetric]
    size: CounterMetric
    seconds: Summary


class RelayMetrics:
    """What the relay did, by slot. A slot that is gone takes its series along."""

    def __init__(self, state: State, registry: CollectorRegistry) -> None:
        self._state = state
        self._scrapes = CounterMetric(
            "kamal_sd_relay_scrapes",
            "Scrapes through the relay, by how they ended.",
            [*Slot._fields, "result"],
            registry=registry,
        )
        self._bytes = CounterMetric(
            "kamal_sd_relay_bytes",
            "Bytes of the apps' answers, as they were sent.",
            Slot._fields,
            registry=registry,
        )
        self._seconds = Summary(
            "kamal_sd_relay_duration_seconds",
            "How long a scrape through the relay took, from its request to its last byte.",
            Slot._fields,
            registry=registry,
        )
        self._of: dict[Slot, _RelaySeries] = {}

    def observe(self, slot: Slot, result: RelayResult, seconds: float, size: int) -> None:
        """Counts one scrape."""
        series = self._of.get(slot)
        if series is None:
            found = _RelaySeries({}, self._bytes.labels(*slot), self._seconds.labels(*slot))
            series = self._of[slot] = found
        scrapes = series.scrapes.get(result)
        if scrapes is None:
            scrapes = series.scrapes[result] = self._scrapes.labels(*slot, result)
        scrapes.inc()
        series.size.inc(size)
        series.seconds.observe(seconds)

    def forget_gone(self) -> None:
        """Drops the series of the slots that are not known any more."""
        known = {decision.slot for decision in self._state.view.decisions}
        for slot in self._of.keys() - known:
            for result in self._of.pop(slot).scrapes:
                self._scrapes.remove(*slot, result)
            self._bytes.remove(*slot)
            self._seconds.remove(*slot)


class _StateCollector(Collector):
    def __init__(self, state: State) -> None:
        self._state = state

    def describe(self) -> list[Metric]:
        """Nothing: the registry is this server's alone, so no name can be another's."""
        return []

    def collect(self) -> Iterator[Metric]:
        view = self._state.view
        build = {"version": __version__, "revision": __revision__}
        yield InfoMetricFamily("kamal_sd_build", "What runs here.", build)
        yield from _settings(self._state)
        yield from _engines(view.snapshots, self._state.now())
        yield _decisions(view.decisions)
        yield _conflicts(view)
        yield _slots_by_state(view)
        yield from _deploys(self._state)
        yield _slots(view.current())


def _settings(state: State) -> Iterator[Metric]:
    # Named as Prometheus names its own.
    yield GaugeMetricFamily(
        "kamal_sd_config_last_reload_successful",
        "Whether the settings that were read last were taken; else the ones before hold.",
        value=not state.refusal,
    )
    yield GaugeMetricFamily(
        "kamal_sd_config_last_reload_success_timestamp_seconds",
        "When the settings that hold were taken.",
        value=state.settings_at,
    )


def _engines(snapshots: tuple[Snapshot, ...], now: float) -> Iterator[Metric]:
    up = GaugeMetricFamily(
        "kamal_sd_engine_up", "Whether the engine is being heard.", labels=["host"]
    )
    listed = GaugeMetricFamily(
        "kamal_sd_engine_listed",
        "Whether the engine was listed once. Where it is 0, its roles are no targets.",
        labels=["host"],
    )
    age = GaugeMetricFamily(
        "kamal_sd_engine_list_age_seconds",
        "Seconds since the engine's last good list. Absent before the first.",
        labels=["host"],
    )
    events = CounterMetricFamily(
        "kamal_sd_engine_events", "Events heard from the engine.", labels=["host"]
    )
    reconnects = CounterMetricFamily(
        "kamal_sd_engine_reconnects", "How often the engine was lost.", labels=["host"]
    )
    for snapshot in snapshots:
        host = [snapshot.host]
        up.add_metric(host, snapshot.up)
        listed.add_metric(host, snapshot.listed_at is not None)
        if snapshot.listed_at is not None:
            age.add_metric(host, max(0.0, now - snapshot.listed_at))
        events.add_metric(host, snapshot.events)
        reconnects.add_metric(host, snapshot.reconnects)
    return iter((up, listed, age, events, reconnects))


def _decisions(decisions: tuple[Decision, ...]) -> Metric:
    family = GaugeMetricFamily(
        "kamal_sd_decisions",
        "Decisions by reason; current and kept ones are targets, and candidates that are watched.",
        labels=["host", "reason"],
    )
    counts = Counter((decision.host, decision.reason) for decision in decisions)
    for (host, reason), count in sorted(counts.items()):
        family.add_metric([host, reason], count)
    return family


def _conflicts(view: View) -> Metric:
    family = GaugeMetricFamily(
        "kamal_sd_alias_conflicts",
        "Aliases of roles to which others answer, too, where aliases are verified.",
        labels=["host"],
    )
    counts = Counter(conflict.host for conflict in view.conflicts)
    for snapshot in view.snapshots:
        family.add_metric([snapshot.host], counts[snapshot.host])
    return family


def _slots_by_state(view: View) -> Metric:
    family = GaugeMetricFamily(
        "kamal_sd_slots",
        "Slots by what they are: current, deploying (a candidate runs, too), down or refused.",
        labels=["host", "state"],
    )
    counts = Counter(
        {(snapshot.host, state): 0 for snapshot in view.snapshots for state in _SLOT_STATES}
    )
    deploying = {each.slot for each in view.decisions if each.reason is Reason.CANDIDATE}
    for slot, decision in view.current().items():
        is_down = decision.reason is Reason.KEPT
        state = "down" if is_down else "deploying" if slot in deploying else "current"
        counts[slot.host, state] += 1
    counts.update((slot.host, "refused") for slot in view.refused())
    for (host, state), count in sorted(counts.items()):
        family.add_metric([host, state], count)
    return family


def _deploys(state: State) -> Iterator[Metric]:
    results = CounterMetricFamily(
        "kamal_sd_deploys",
        "Deploys that were seen, by what came of them: took-over or failed.",
        labels=[*Slot._fields, "result"],
    )
    overlap = CounterMetricFamily(
        "kamal_sd_deploy_overlap_seconds",
        "For how long both generations of a slot ran, at all its deploys together.",
        labels=Slot._fields,
    )
    known = state.view.current()
    for slot in sorted(known):
        deploys = state.deploys.get(slot, Deploys())
        results.add_metric([*slot, "took-over"], deploys.took_over)
        results.add_metric([*slot, "failed"], deploys.failed)
        overlap.add_metric(slot, deploys.overlap)
    return iter((results, overlap))


def _slots(current: dict[Slot, Decision]) -> Metric:
    family = InfoMetricFamily(
        "kamal_sd_slot",
        "What stands for a slot. Join it by service, role, destination and host.",
        labels=["host", "service", "role", "destination"],
    )
    for slot, decision in sorted(current.items()):
        container = decision.container
        family.add_metric(
            list(slot),
            {
                "version": scrub(decision.version),
                "container": scrub(container.name),
                "container_id": container.id,
                "image": scrub(container.image),
            },
        )
    return family
