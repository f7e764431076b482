"""The promises over any sequence of what can happen to containers, engines and time.

The real watchers and the real choice, in simulated time, on top of engines that misbehave. After
each step, what is served is held against what was told, and that against what is true.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
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
from app.engine.client import EngineError, StreamSilentError
from app.engine.ledger import AFTERLIFE
from app.model import Container, Decision, Health, Reason, Slot, Snapshot
from app.model import State as Is
from app.settings import Settings
from tests import http_sd_reader
from tests.builders import NOW, identity, settings
from tests.engine.simulated import simulated
from tests.made_up import HEALED, PACE, Engine, Engines, Truth, refused

# The same examples every time, so that a red run means a change; `make fuzz` looks for new ones.
EXAMPLES = int(os.environ.get("EXPLORE", "0"))
PROFILE = hypothesis.settings(
    derandomize=not EXAMPLES,
    deadline=None,
    max_examples=EXAMPLES or 80,
    stateful_step_count=40,
    suppress_health_check=list(hypothesis.HealthCheck),
)
LIMIT, KEEP = 90.0, 3600.0
# How late an event may be heard, and what lists may be rounded by.
LATE = 4.0 + 2.0


def _settings(*, verify: bool) -> Settings:
    return settings(
        engines=[{"url": "unix:///a", "host": "a"}, {"url": "unix:///b", "host": "b"}],
        overlap_limit=LIMIT,
        keep_missing=KEEP,
        aliases={"verify": verify},
    )


# Whether aliases are asked for, and told, changes nothing here: nobody is reached by one.
SETTINGS = {verify: _settings(verify=verify) for verify in (False, True)}
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
# An event is lost, told in time, twice, late, or both; one that is late is told after the next.
posts = st.just([()] * 9) | st.lists(
    st.sampled_from([(), (0.0,), (0.0, 1.0), (1.5,), (4.0,), (0.0, 0.0)]), min_size=1
)
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
    def is_adrift(self) -> bool:
        """Whether one of them runs on no network: then it may be that none can be a target."""
        return any(not each.networks for each in self.running)

    @property
    def targets(self) -> list[Decision]:
        return [each for each in self.decisions if each.target]


class Deploys(RuleBasedStateMachine):
    """Whatever can happen: each rule is one thing that does."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.clock = self.stack.enter_context(simulated(NOW))
        self.numbers = count()
        # The plain labels of each target, and who was seen current and has run since then.
        self.series: dict[tuple[Slot, str], dict[str, str]] = {}
        self.seen: dict[Slot, str] = {}
        # The engines that have misbehaved, and of which not all may be known.
        self.upset: set[str] = set()
        # The slots that had a target, and who was known of them to have run.
        self.stood: dict[Slot, set[str]] = {}

    def teardown(self) -> None:
        with self.stack:
            self.engines.stop()

    def _forget_who_died(self, snapshot: Snapshot) -> None:
        for slot, container_id in list(self.seen.items()):
            now = snapshot.containers.get(container_id)
            if slot.host == snapshot.host and not (now and now.running):
                del self.seen[slot]

    def _one(self, pick: int, which: Callable[[Truth], bool]) -> Iterator[tuple[Engine, Truth]]:
        fitting = [each for each in self.engines.true.values() if which(each)]
        if fitting:
            truth = fitting[-1 - pick % len(fitting)]
            yield self.engines.by_host[truth.slot.host], truth
            self.clock.run()

    # --- what happens to containers ---

    @initialize(
        ages=st.lists(st.sampled_from(SECONDS), min_size=2, max_size=2), verify=st.booleans()
    )
    def begin(self, ages: list[float], verify: bool) -> None:
        self.engines = Engines(SETTINGS[verify], self.clock)
        self.engines.on_publish = self._forget_who_died
        self.clock.run()
        for slot in PORTS:
            self.deploy(slot, "v0", starts=1)
        for age in ages:
            self.clock.run(age)
            self.deploy(next(iter(PORTS)), "v1", starts=1)

    @rule(slot=slots, version=versions, starts=st.integers(0, 3))
    def deploy(self, slot: Slot, version: str, starts: int) -> None:
        self._new(slot, f"{slot.name}-{version}", starts=bool(starts))

    @rule(slot=slots)
    def one_off(self, slot: Slot) -> None:
        """`kamal app exec`: it has the labels of the image, without a role."""
        name = f"{slot.service}-{slot.role}-exec-{next(self.numbers)}"
        self._new(slot, name, starts=True, one_off=True)

    @rule(slot=slots, version=versions, prunes=st.booleans())
    def whole_deploy(self, slot: Slot, version: str, prunes: bool) -> None:
        """As Kamal does it: the new one starts, the old ones are stopped, and removed one day."""
        before = [each for each in self.engines.true.values() if each.slot == slot]
        engine = self.engines.by_host[slot.host]
        self._new(slot, f"{slot.name}-{version}", starts=True)
        self.clock.run(5.0)
        for old in before:
            if old.runs:
                engine.tell(old.id, "kill")
                self.clock.run(0.5)
                engine.change(old, "die", state=Is.EXITED, since=self.clock.now)
        self.clock.run()
        for old in before if prunes else ():
            engine.remove(old)
        self.clock.run()

    def _new(self, slot: Slot, name: str, *, starts: bool, one_off: bool = False) -> None:
        true, engine = self.engines.true, self.engines.by_host[slot.host]
        for other in true.values():
            if (other.slot.host, other.name) == (slot.host, name):
                engine.change(other, "rename", name=self._out_of_the_way(other))
        taken = {each.ip for each in true.values() if each.runs}
        # The lowest free address, as an engine gives it: that of one that has just stopped.
        ip = next(ip for ip in (f"172.18.0.{last}" for last in range(2, 255)) if ip not in taken)
        container_id = identity(f"{next(self.numbers)}-{name}")
        now = self.clock.now
        truth = Truth(container_id, slot, name, ip, PORTS[slot], now, now, Is.CREATED)
        truth.one_off = one_off
        # A list that lags behind shows it at least as created.
        engine.true[truth.id] = truth
        engine.tell(truth.id, "create")
        if starts:
            engine.change(truth, "connect", "start", state=Is.RUNNING)
        self.clock.run()

    @rule(pick=picks)
    def start(self, pick: int) -> None:
        for engine, truth in self._one(pick, lambda each: not each.runs):
            now = self.clock.now
            engine.change(truth, "start", state=Is.RUNNING, since=now, health=Health.NONE)

    @rule(pick=picks)
    def start_and_die(self, pick: int) -> None:
        """So quickly that lists show it running only when it is dead."""
        for engine, truth in self._one(pick, lambda each: not each.runs):
            engine.change(truth, "start", state=Is.RUNNING, since=self.clock.now)
            engine.change(truth, "die", lag=0.2, state=Is.EXITED)

    @rule(pick=picks, into=st.sampled_from([Is.EXITED, Is.RESTARTING]), stale=st.booleans())
    def stop(self, pick: int, into: Is, stale: bool) -> None:
        for engine, truth in self._one(pick, lambda each: each.runs):
            # It leaves its network on the way, and the look at that may still show it running.
            lag = 1.0 if stale else 0.0
            how = {"state": into, "since": self.clock.now}
            engine.change(truth, "kill", "die", "disconnect", lag=lag, **how)
            self.clock.run()
            self.whoever_was_heard_to_die_is_dead()
            self.clock.run(2 * PACE.settle)

    @rule(pick=picks, health=healths)
    def change_health(self, pick: int, health: Health) -> None:
        for engine, truth in self._one(pick, lambda each: each.runs):
            engine.change(truth, "health_status", health=health)

    @rule(pick=picks, what=st.sampled_from(["rename", "pause", "connect"]))
    def rename_or_pause_or_connect(self, pick: int, what: str) -> None:
        for engine, truth in self._one(pick, lambda each: each.runs or what == "rename"):
            if what == "rename":
                engine.change(truth, "rename", name=self._out_of_the_way(truth))
            elif what == "connect":
                action = "disconnect" if truth.on_network else "connect"
                engine.change(truth, action, on_network=not truth.on_network)
                self.clock.run(2 * PACE.settle)
            elif truth.state is Is.RUNNING:
                engine.change(truth, "pause", state=Is.PAUSED)
            else:
                engine.change(truth, "unpause", state=Is.RUNNING)

    def _out_of_the_way(self, truth: Truth) -> str:
        return f"{truth.name[:40]}_replaced_{next(self.numbers):016x}"

    @rule(pick=picks)
    def remove(self, pick: int) -> None:
        for engine, truth in self._one(pick, lambda each: not each.runs):
            engine.remove(truth)

    @rule(seconds=st.sampled_from(SECONDS))
    def time_passes(self, seconds: float) -> None:
        self.clock.run(seconds)

    # --- how engines misbehave ---

    @rule(
        host=hosts,
        how=st.sampled_from(["refuse", "fail", "garble", "inspect", "cut", "hang up", "renew"]),
    )
    def fail(self, host: str, how: str) -> None:
        engine = self.engines.by_host[host]
        self.upset.add(host)
        before = self._addresses(host)
        match how:
            case "refuse":
                engine.refusal = refused("403 Forbidden")
                engine.cut(None)
            case "fail":
                engine.fault = refused("500 Internal Server Error")
            case "garble":
                engine.fault = {"message": "no list"}
            case "inspect":
                engine.inspect_fault = refused("403 Forbidden")
            case "cut":
                engine.cut(EngineError("Connection reset by peer"))
            case "hang up":
                engine.cut(None)
            case "renew":
                engine.cut(StreamSilentError("no event for 600 s"))
        self.clock.run()
        # An error never removes a target (promise 4).
        assert before <= self._addresses(host)

    @rule(
        host=hosts,
        answers=st.lists(
            st.sampled_from([[], None, {"message": "no list"}, refused("500 Server Error")]),
            max_size=3,
        ).filter(lambda answers: [] not in answers[1:]),
    )
    def answer_badly(self, host: str, answers: list[object]) -> None:
        """The next lists are empty, no lists, or refused; None is a true one."""
        self.upset.add(host)
        engine = self.engines.by_host[host]
        engine.answers[:] = [] if [] in engine.answers else answers

    @rule(host=hosts, post=posts)
    def tell_badly(self, host: str, post: list[tuple[float, ...]]) -> None:
        self.upset.add(host)
        self.engines.by_host[host].post[:] = post

    @rule(host=hosts, lag=st.sampled_from([0.1, 1.0, 1.9]))
    def show_late(self, host: str, lag: float) -> None:
        self.upset.add(host)
        self.engines.by_host[host].lag = lag

    @rule(slot=slots, how_many=st.integers(0, 2))
    def another_engine(self, slot: Slot, how_many: int) -> None:
        engine = self.engines.by_host[slot.host]
        self.upset.add(slot.host)
        engine.replace_by_another()
        for number in range(how_many):
            self._new(slot, f"{slot.name}-other{number}", starts=True)

    @rule()
    def restart(self) -> None:
        """kamal-sd itself ends, and starts with what it knew."""
        before = {host: self._addresses(host) for host in self.engines.by_host}
        self.upset |= self.engines.by_host.keys()
        self.engines.restart()
        for host, served in before.items():
            assert served <= self._addresses(host)
        self.clock.run()

    @rule(host=hosts)
    def behave(self, host: str) -> None:
        """An engine that behaves again is soon known as it is."""
        self.engines.by_host[host].behave()
        self.clock.run(HEALED)
        (known,) = [each for each in self.engines.state.view.snapshots if each.host == host]
        fresh = self.engines.entries(host)
        assert known.up
        assert not known.alias_error
        assert known.containers.keys() == fresh.keys()
        for container_id, shown in fresh.items():
            found = known.containers[container_id]
            truth = self.engines.true[container_id]
            networks = tuple(each._replace(aliases=None) for each in found.networks)
            found_now = replace(
                found, networks=networks, since=shown.since, since_error=shown.since_error
            )
            assert replace(found_now, stopping=False) == shown
            assert abs(found.since - truth.since) <= found.since_error + shown.since_error + LATE
        self.upset.discard(host)

    # --- what must be so after each of them ---

    def _served(self) -> list[http_sd_reader.Target]:
        return http_sd_reader.read(self.engines.state.view.answer({}).body)

    def _addresses(self, host: str) -> set[str]:
        return {each.address for each in self._served() if each.labels["host"] == host}

    def _pictures(self) -> Iterator[Picture]:
        view = self.engines.state.view
        for snapshot in view.snapshots:
            found = [each for each in view.decisions if each.host == snapshot.host]
            assert {each.container.id for each in found} == set(snapshot.containers)
            now = snapshot.as_of(self.clock.now)
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
        for picture in self._pictures():
            found = picture.targets
            assert len({each.container.id for each in found}) <= 1
            assert len(found) in (0, len(PORTS[picture.slot].split(",")))
            if picture.running and not picture.is_adrift:
                assert {each.reason for each in found} == {Reason.CURRENT}

    @invariant()
    def the_current_one_never_goes_back_and_no_candidate_hurries(self) -> None:
        for picture in self._pictures():
            running = {each.id: each for each in picture.running}
            if not picture.targets or not running:
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
    def no_fault_removes_a_target(self) -> None:
        true = self.engines.true
        stands: dict[Slot, set[str]] = {}
        for picture in self._pictures():
            if picture.targets:
                ran = {each.id for each in picture.containers if each.running or each.stopped}
                stands[picture.slot] = ran
            elif before := self.stood.get(picture.slot):
                still = [true[each] for each in before if each in true and true[each].runs]
                assert picture.is_adrift or not still
        self.stood = stands

    @invariant()
    def whoever_was_heard_to_die_is_dead(self) -> None:
        for snapshot in self.engines.state.view.snapshots:
            engine = self.engines.by_host[snapshot.host]
            for container_id, died_at in engine.deaths.items():
                known = snapshot.containers.get(container_id)
                if known and known.running:
                    # Only a list can say that it lives again, and only one of later on.
                    assert engine.shown_running.get(container_id, 0.0) >= died_at + AFTERLIFE

    @invariant()
    def what_is_served_is_true_where_the_engine_behaves(self) -> None:
        for target in self._served():
            if target.labels["host"] not in self.upset:
                truth = self.engines.true[target.labels["__meta_docker_container_id"]]
                address = f"{truth.ip}:" if truth.runs else f"{truth.slot.name}.invalid:"
                assert target.address.startswith(address)
                assert not truth.one_off

    @invariant()
    def the_same_snapshots_and_time_give_the_same_bytes(self) -> None:
        view = self.engines.state.view
        turned = [
            replace(each, containers=MappingProxyType(dict([*each.containers.items()][::-1])))
            for each in view.snapshots[::-1]
        ]
        for snapshots in (view.snapshots, turned):
            fresh = decide(snapshots, self.engines.settings, self.clock.now).decisions
            assert http_sd.body(http_sd.fragments(fresh), {}) == view.answer({}).body


def _start(container: Container) -> tuple[float, float, str]:
    return container.since, container.created, container.id


def test_the_promises_hold_whatever_happens() -> None:
    run_state_machine_as_test(Deploys, settings=PROFILE)
