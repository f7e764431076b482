"""Promises 1 to 3 and 6 over every recorded deploy: what is served, at every recorded instant."""

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from app.discovery import http_sd
from app.discovery.decide import decide
from app.discovery.labels import readable
from app.engine import ledger, parse
from app.model import AliasConflict, Decision, Kind, Reason, Snapshot
from app.settings import EngineSettings, Settings
from tests import http_sd_reader
from tests.timelines import KEPT, NEVER, TIMELINES, Step

RECORDINGS = Path(__file__).parent / "recordings"
STAGES = [(recorder, stage) for recorder in TIMELINES for stage in TIMELINES[recorder]]
SETTINGS = Settings(engines=(EngineSettings(url="unix:///recorded.sock"),))
# A recorded list is a sample of every 100 ms or so; a start shows in the first one after it.
SAMPLING = 0.4


class Instant(NamedTuple):
    """What was decided at one time of a stage, and the event that led to it, if any."""

    t: float
    event: str
    decisions: tuple[Decision, ...]
    conflicts: tuple[AliasConflict, ...]


def replay(recorder: str, stage: str, settings: Settings = SETTINGS) -> Iterator[Instant]:
    """The decisions after each recorded list and event, as the real ledger folds them.

    Where the settings verify aliases, the recorded inspects are folded, too.
    """
    is_readable = readable(settings)
    lines = gzip.decompress(
        (RECORDINGS / recorder / f"{stage}.ndjson.gz").read_bytes()
    ).splitlines()
    snapshot = Snapshot("")
    started: set[str] = set()
    for line in map(json.loads, lines):
        # The recordings' t is relative, and their containers' Created is not.
        now = 1_795_440_000 + line["t"]
        event = ""
        if "containers" in line:
            found = parse.containers(line["containers"], now, is_readable)
            snapshot = ledger.listed(snapshot, found, now, started)
            started.clear()
        elif told := parse.event(line.get("event")):
            event = f"{told.action} {_name_in(line['event'])}"
            if told.action == "die":
                started.discard(told.container_id)
                snapshot = ledger.died(snapshot, told.container_id, now)
            elif told.action == "destroy":
                snapshot = ledger.removed(snapshot, told.container_id)
            elif told.action == "start":
                started.add(told.container_id)
        elif settings.aliases.verify and line.get("inspect", {}).get("Id") in snapshot.containers:
            inspected = line["inspect"]
            snapshot = ledger.named(snapshot, inspected["Id"], parse.aliases(inspected))
        else:
            continue
        outcome = decide([snapshot], settings, now)
        snapshot = replace(snapshot, incumbents=outcome.incumbents[""])
        yield Instant(line["t"], event, outcome.decisions, outcome.conflicts)


def _name_in(event: Mapping[str, Any]) -> str:
    return str(event["Actor"].get("Attributes", {}).get("name", ""))


def _picture(instant: Instant) -> dict[str, str]:
    """Each slot's current container by name, or KEPT. Fails where a slot has two targets."""
    picture: dict[str, str] = {}
    for decision in instant.decisions:
        if decision.target:
            assert decision.slot
            assert decision.slot.name not in picture, f"two targets of a slot at {instant.t}"
            kept = decision.reason is Reason.KEPT
            picture[decision.slot.name] = KEPT if kept else decision.container.name
    return picture


@pytest.mark.parametrize(("recorder", "stage"), STAGES)
def test_the_timeline_is_the_one_written_by_hand(recorder: str, stage: str) -> None:
    expected = list(TIMELINES[recorder][stage])
    seen: list[Step] = []
    told_at: dict[str, float] = {}
    for instant in replay(recorder, stage):
        if instant.event:
            told_at.setdefault(instant.event, instant.t)
        picture = _picture(instant)
        if not seen or picture != seen[-1].targets:
            assert len(seen) < len(expected), f"at {instant.t} a change too many: {picture}"
            step = expected[len(seen)]
            assert picture == step.targets, f"at {instant.t}, after {step.after}"
            if step.after != "start":
                late = instant.t - told_at[step.after]
                assert late <= (0 if step.after.startswith("die") else SAMPLING), step.after
            seen.append(step)
    assert seen == expected


@pytest.mark.parametrize(("recorder", "stage"), STAGES)
def test_what_must_never_be_a_target_never_is(recorder: str, stage: str) -> None:
    never = NEVER[recorder][stage]
    kinds = {"kamal-proxy": Kind.PROXY, "accessory": Kind.ACCESSORY, "one-off": Kind.ONE_OFF}
    seen = set()
    for instant in replay(recorder, stage):
        for decision in instant.decisions:
            name = decision.container.name
            if name in never:
                seen.add(name)
                assert decision.target is None, f"{name} at {instant.t}"
                assert decision.detail
                if never[name] in kinds:
                    assert decision.kind is kinds[never[name]]
    assert seen == set(never)


@pytest.mark.parametrize(("recorder", "stage"), STAGES)
def test_no_plain_label_changes_and_every_answer_can_be_read(recorder: str, stage: str) -> None:
    series: dict[str, dict[str, str]] = {}
    for instant in replay(recorder, stage):
        body = http_sd.body(http_sd.fragments(instant.decisions), {})
        for target in http_sd_reader.read(body):
            slot = target.labels["__meta_kamal_slot"]
            assert target.series == series.setdefault(slot, target.series)
            assert target.series["instance"] == f"{slot}:9394"


def test_a_kept_target_keeps_the_version_that_was_current() -> None:
    # The slot shop-job also holds a stopped candidate that never was current.
    last = list(replay("docker-20.10.24", "07-app-stop"))[-1]
    kept = {each.slot.name: each for each in last.decisions if each.slot and each.target}
    assert kept["shop-job"].version == "v2"
    assert kept["shop-job"].target.targets == ("shop-job.invalid:9394",)  # type: ignore[union-attr]
