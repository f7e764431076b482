"""Promises 1, 2, 3, 4 and 6 over any sequence of what can happen to containers, and of time.

After each step, what is served is held against what the ledger knows, and that against what is
true.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from types import MappingProxyType
from typing import NamedTuple

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from app.discovery import http_sd
from app.discovery.decide import decide
from app.discovery.endpoint import Caller
from app.engine.ledger import AFTERLIFE
from app.model import Container, Decision, Health, Reason, Slot, Snapshot
from app.model import State as Is
from tests import http_sd_reader
from tests.builders import identity, settings
from tests.made_up import Engines, Truth

# The same examples every time, so that a red run means a change; EXPLORE=1 looks for new ones.
PROFILE = hypothesis.settings(
    derandomize="EXPLORE" not in os.environ,
    deadline=None,
    max_examples=300,
    stateful_step_count=40,
    suppress_health_check=list(hypothesis.HealthCheck),
)
LIMIT, KEEP = 90.0, 3600.0
SETTINGS = settings(
    engines=[{"url": "unix:///a", "host": "a"}, {"url": "unix:///b", "host": "b"}],
    overlap_limit=LIMIT,
    keep_missing=KEEP,
)
# Each slot, and the label with its metrics ports.
PORTS = {
    Slot("a", "shop", "web"): "9394",
    Slot("a", "shop", "web", "staging"): "9394, b=9395",
    Slot("b", "shop", "web"): "9394",
}
BOTH = Caller(generations="both")
SECONDS = [0.1, 1.9, 5.0, 30.0, 60.0, 89.0, 91.0, 600.0, 3599.0, 3601.0]

# The first one has the most done to it: what is worth seeing takes several steps on one slot.
slots = st.sampled_from([*[next(iter(PORTS))] * 4, *PORTS])
hosts = st.sampled_from(["a", "b"])
# Which container it happens to, counted from the newest one.
picks = st.sampled_from([0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 5, 7])
healths = st.sampled_from([*Health, Health.UNHEALTHY, Health.UNHEALTHY, Health.HEALTHY])
versions = st.just("v1") | st.from_regex(r"[a-zA-Z0-9_.-]{1,8}", fullmatch=True)


class Picture(NamedTuple):
    """One slot, as it is served at one time."""

    slot: Slot
    snapshot: Snapshot
    now: float
    containers: list[Container]
    decisions: list[Decision]

    @property
    def running(self) -> list[Container]:
        return sorted((each for each in self.containers if each.running), key=_start)

    @property
    def targets(self) -> list[Decision]:
        return [each for each in self.decisions if each.target]


class Deploys(RuleBasedStateMachine):
    """Whatever can happen: each rule is one thing that does."""

    def __init__(self) -> None:
        super().__init__()
        self.engines = Engines(SETTINGS)
        self.engines.on_publish = self._forget_who_died
        self.numbers = count()
        # The plain labels of each target, and who was seen current and has run since then.
        self.series: dict[tuple[Slot, str], dict[str, str]] = {}
        self.seen: dict[Slot, str] = {}

    def _forget_who_died(self, snapshot: Snapshot) -> None:
        for slot, container_id in list(self.seen.items()):
            now = snapshot.containers.get(container_id)
            if slot.host == snapshot.host and not (now and now.running):
                del self.seen[slot]

    def _one(self, pick: int, which: Callable[[Truth], bool]) -> Iterator[Truth]:
        fitting = [each for each in self.engines.true.values() if which(each)]
        if fitting:
            yield fitting[-1 - pick % len(fitting)]

    # --- what happens ---

    @initialize(ages=st.lists(st.sampled_from(SECONDS), min_size=2, max_size=2))
    def begin(self, ages: list[float]) -> None:
        for slot in PORTS:
            self.deploy(slot, "v0", starts=1)
        for age in ages:
            self.engines.now += age
            self.deploy(next(iter(PORTS)), "v1", starts=1)

    @rule(slot=slots, version=versions, starts=st.integers(0, 3))
    def deploy(self, slot: Slot, version: str, starts: int) -> None:
        true, now = self.engines.true, self.engines.now
        name = f"{slot.name}-{version}"
        for other in true.values():
            if (other.slot.host, other.name) == (slot.host, name):
                self._rename(other)
        taken = {each.ip for each in true.values() if each.runs}
        # The lowest free address, as an engine gives it: that of one that has just stopped.
        ip = next(ip for ip in (f"172.18.0.{last}" for last in range(2, 255)) if ip not in taken)
        container_id = identity(f"{next(self.numbers)}-{name}")
        truth = Truth(container_id, slot, name, ip, PORTS[slot], now, now)
        truth.state = Is.RUNNING if starts else Is.CREATED
        true[truth.id] = truth
        self.engines.look(truth, started=bool(starts))

    @rule(pick=picks)
    def start(self, pick: int) -> None:
        for truth in self._one(pick, lambda each: not each.runs):
            truth.state, truth.since, truth.health = Is.RUNNING, self.engines.now, Health.NONE
            self.engines.look(truth, started=True)

    @rule(pick=picks, into=st.sampled_from([Is.EXITED, Is.RESTARTING]), stale=st.booleans())
    def stop(self, pick: int, into: Is, stale: bool) -> None:
        for truth in self._one(pick, lambda each: each.runs):
            self.engines.end(truth, into, stale_list=stale)

    @rule(pick=picks, health=healths)
    def change_health(self, pick: int, health: Health) -> None:
        for truth in self._one(pick, lambda each: each.runs):
            truth.health = health
            self.engines.look(truth)

    @rule(pick=picks, pauses=st.booleans())
    def rename_or_pause(self, pick: int, pauses: bool) -> None:
        for truth in self._one(pick, lambda each: each.runs or not pauses):
            if not pauses:
                self._rename(truth)
            else:
                truth.state = Is.PAUSED if truth.state is Is.RUNNING else Is.RUNNING
                self.engines.look(truth)

    def _rename(self, truth: Truth) -> None:
        truth.name = f"{truth.name[:40]}_replaced_{next(self.numbers):016x}"
        self.engines.look(truth)

    @rule(pick=picks)
    def remove(self, pick: int) -> None:
        for truth in self._one(pick, lambda each: not each.runs):
            self.engines.remove(truth)

    @rule(seconds=st.sampled_from(SECONDS))
    def time_passes(self, seconds: float) -> None:
        self.engines.now += seconds

    @rule(host=hosts, what=st.sampled_from(["resync", "resync", "lose", "restart"]))
    def connection(self, host: str, what: str) -> None:
        if what == "resync":
            self._resync(host)
        elif what == "lose":
            self._lose(host)
        else:
            self.engines.restart()

    def _resync(self, host: str) -> None:
        self.engines.now += AFTERLIFE
        self.engines.list_all(host)
        known, true = self.engines.known[host].containers, self.engines.of(host)
        assert {key: each.state for key, each in known.items()} == {
            key: each.state for key, each in true.items()
        }

    def _lose(self, host: str) -> None:
        before = {each.address for each in self._served() if each.labels["host"] == host}
        self.engines.lose(host, silent_for=5.0)
        # An error never removes a target (promise 4).
        assert before <= {each.address for each in self._served()}

    # --- what must be so after each of them ---

    def _served(self) -> list[http_sd_reader.Target]:
        return http_sd_reader.read(self.engines.state.view.answer({}).body)

    def _pictures(self) -> Iterator[Picture]:
        view = self.engines.state.view
        for snapshot in view.snapshots:
            found = [each for each in view.decisions if each.host == snapshot.host]
            assert {each.container.id for each in found} == set(snapshot.containers)
            now = snapshot.as_of(self.engines.now)
            for slot in PORTS:
                of_slot = [each for each in found if each.slot == slot]
                containers = list({each.container.id: each.container for each in of_slot}.values())
                if slot.host == snapshot.host:
                    yield Picture(slot, snapshot, now, containers, of_slot)

    @invariant()
    def no_plain_label_ever_changes(self) -> None:
        for picture in self._pictures():
            for decision in picture.targets:
                assert decision.target
                labels = decision.target.labels
                port = labels["__meta_docker_port_private"]
                plain = {name: value for name, value in labels.items() if name[:2] != "__"}
                assert plain == self.series.setdefault((picture.slot, port), plain)
                assert plain["instance"] == f"{picture.slot.host}/{picture.slot.name}:{port}"

    @invariant()
    def a_slot_has_a_target_for_each_port_of_one_container(self) -> None:
        for slot, _, _, containers, decisions in self._pictures():
            found = [each for each in decisions if each.target]
            assert len({each.container.id for each in found}) <= 1
            assert len(found) in (0, len(PORTS[slot].split(",")))
            if any(each.running for each in containers):
                assert {each.reason for each in found} == {Reason.CURRENT}

    @invariant()
    def the_current_one_never_goes_back_and_no_candidate_hurries(self) -> None:
        for picture in self._pictures():
            running = {each.id: each for each in picture.running}
            if not running:
                continue
            current = running[picture.targets[0].container.id]
            before = running[self.seen.get(picture.slot, next(iter(running)))]
            if current is not before:
                due = picture.now >= current.since + LIMIT
                better = (before.health, current.health) == (Health.UNHEALTHY, Health.HEALTHY)
                assert _start(current) > _start(before)
                assert better or (due and current.health is not Health.UNHEALTHY)
            for newer in [each for each in running.values() if _start(each) > _start(current)]:
                assert picture.now < newer.since + LIMIT or newer.health is Health.UNHEALTHY
            self.seen[picture.slot] = current.id

    @invariant()
    def to_watch_the_next_generation_changes_nothing_of_the_current_one(self) -> None:
        view = self.engines.state.view
        both = [each for each in view.decisions_for(BOTH) if each.target]
        lanes = [each for each in both if each.reason is Reason.CANDIDATE]
        alone = http_sd.fragments(each for each in both if each not in lanes)
        assert http_sd.body(alone, {}) == view.answer({}).body
        for lane in lanes:
            assert lane.target
            assert lane.slot
            labels = lane.target.labels
            port = labels["__meta_docker_port_private"]
            plain = {name: value for name, value in labels.items() if name[:2] != "__"}
            assert plain == self.series[lane.slot, port] | {
                "instance": f"{lane.host}/{lane.slot.name}.next:{port}",
                "generation": "next",
            }

    @invariant()
    def a_slot_that_died_stays_visible_for_a_while(self) -> None:
        for picture in self._pictures():
            stopped = [each.since for each in picture.containers if each.stopped]
            if picture.running:
                continue
            assert bool(picture.targets) is (bool(stopped) and picture.now < max(stopped) + KEEP)
            for kept in picture.targets:
                assert kept.target
                assert kept.reason is Reason.KEPT
                assert kept.container.since == max(stopped)
                assert kept.target.targets[0].startswith(f"{picture.slot.name}.invalid:")

    @invariant()
    def what_is_served_is_true_as_far_as_it_was_told(self) -> None:
        for target in self._served():
            if target.labels["host"] not in self.engines.lost:
                truth = self.engines.true[target.labels["__meta_docker_container_id"]]
                address = f"{truth.ip}:" if truth.runs else f"{truth.slot.name}.invalid:"
                assert target.address.startswith(address)

    @invariant()
    def the_same_snapshots_and_time_give_the_same_bytes(self) -> None:
        view = self.engines.state.view
        turned = [
            replace(each, containers=MappingProxyType(dict([*each.containers.items()][::-1])))
            for each in view.snapshots[::-1]
        ]
        for snapshots in (view.snapshots, turned):
            fresh = decide(snapshots, SETTINGS, self.engines.now).decisions
            assert http_sd.body(http_sd.fragments(fresh), {}) == view.answer({}).body


def _start(container: Container) -> tuple[float, float, str]:
    return container.since, container.created, container.id


def test_the_promises_hold_whatever_happens() -> None:
    run_state_machine_as_test(Deploys, settings=PROFILE)
