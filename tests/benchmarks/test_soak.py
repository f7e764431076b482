"""The soak itself, as `make soak` runs it, with a fault of each sort."""

from functools import partial

import pytest

from tests.benchmarks.soak import report
from tests.benchmarks.soak.findings import Findings
from tests.benchmarks.soak.rig import Rig
from tests.benchmarks.soak.soak import Plan, soak
from tests.lab.engine import Engine
from tests.lab.world import World

pytestmark = pytest.mark.real

SEED = "quick"
# One of each sort, in half a minute: each loss doubles the time until the engine is sought again.
ONCE = ("engine killed", "a list empty", "settings changed", "kamal-sd killed, and no engine")
QUICK = Plan(
    seconds=0, seed=SEED, kamal=False, quiet_for=1, rest=(0, 0), calm=0, scale=0.1, once=ONCE
)


def test_a_fault_of_each_sort_while_all_goes_on() -> None:
    findings, told = Findings(), list[str]()
    with (
        World(make=partial(Engine, live_restore=True)) as world,
        Rig(world, findings, SEED, kamal=False).running() as rig,
    ):
        figures, _ = soak(rig, QUICK, told.append)
    assert findings.lines == []
    assert findings.done["answers checked"] > 50
    assert findings.done["deploys of a role"] > 4
    assert figures.scrapes > 50
    table = report.markdown(figures, findings, SEED, "", {"machine": "this one"})
    assert "| not as promised | nothing |" in table
