"""The incumbent rule, branch by branch. A generation is written as its name, state and age."""

from collections.abc import Collection

import pytest

from app.discovery.incumbent import NEVER, Choice, choose
from app.model import Container, Health, State
from tests.builders import NOW, container, identity

LIMIT, KEEP = 90.0, 3600.0


def up(name: str, ago: float, health: Health = Health.NONE) -> Container:
    return container(name, ago=ago, health=health)


def down(name: str, ago: float, state: State = State.EXITED) -> Container:
    return container(name, ago=ago, state=state)


def choice(*generations: Container, incumbents: Collection[str] = (), after: float = 0.0) -> Choice:
    remembered = {identity(name) for name in incumbents}
    now = NOW + after
    return choose(generations, remembered, now=now, overlap_limit=LIMIT, keep_missing=KEEP)


def name_of(chosen: Choice) -> str:
    return chosen.current.name if chosen.current else ""


STARTING, HEALTHY, UNHEALTHY = Health.STARTING, Health.HEALTHY, Health.UNHEALTHY


@pytest.mark.parametrize(
    ("generations", "current"),
    [
        pytest.param([up("a", 5)], "a", id="the only one"),
        pytest.param([up("a", 5, UNHEALTHY)], "a", id="the only one, unhealthy"),
        pytest.param([up("b", 5), up("a", 100)], "a", id="the oldest stays"),
        pytest.param([up("b", 5, HEALTHY), up("a", 100)], "a", id="a healthy one does not hurry"),
        pytest.param([up("b", 89.9), up("a", 100)], "a", id="just before the overlap limit"),
        pytest.param([up("b", 90), up("a", 100)], "b", id="at the overlap limit"),
        pytest.param([up("b", 90, STARTING), up("a", 100)], "b", id="at the limit, still starting"),
        pytest.param([up("b", 900, UNHEALTHY), up("a", 1000)], "a", id="long, but unhealthy"),
        pytest.param(
            [up("b", 900, UNHEALTHY), up("a", 1000, UNHEALTHY)], "a", id="both are unhealthy"
        ),
        pytest.param(
            [up("b", 5, HEALTHY), up("a", 1000, UNHEALTHY)], "b", id="healthy beats unhealthy"
        ),
        pytest.param(
            [up("b", 5, STARTING), up("a", 1000, UNHEALTHY)], "a", id="starting is not healthy"
        ),
        pytest.param([up("b", 5), up("a", 1000, UNHEALTHY)], "a", id="unknown is not healthy"),
        pytest.param(
            [up("b", 90), up("a", 1000, UNHEALTHY)], "b", id="the limit counts for unhealthy, too"
        ),
        pytest.param(
            [up("c", 1, HEALTHY), up("b", 5, HEALTHY), up("a", 1000, UNHEALTHY)],
            "b",
            id="of two healthy ones the older",
        ),
        pytest.param(
            [up("c", 100), up("b", 200), up("a", 1000)],
            "c",
            id="three generations: the newest able",
        ),
        pytest.param(
            [up("c", 5), up("b", 200), up("a", 1000)], "b", id="three: the newest is not due"
        ),
        pytest.param(
            [up("c", 100, UNHEALTHY), up("b", 200), up("a", 1000)], "b", id="three: it is unhealthy"
        ),
        pytest.param([up("b", 5), down("a", 1)], "b", id="the old one has stopped"),
        pytest.param([up("a", 100), down("b", 1)], "a", id="the new one has failed"),
        pytest.param([up("b", 5), up("a", 100), down("z", 1)], "a", id="stopped ones do not count"),
        pytest.param(
            [up("b", 5), down("a", 100, State.PAUSED)], "a", id="a paused one runs: up shall say so"
        ),
        pytest.param([up("b", 5), down("a", 100, State.RESTARTING)], "b", id="a restarting one"),
    ],
)
def test_who_is_current_without_a_memory(generations: list[Container], current: str) -> None:
    assert name_of(choice(*generations)) == current
    assert name_of(choice(*reversed(generations))) == current


@pytest.mark.parametrize(
    ("generations", "before", "current"),
    [
        pytest.param([up("b", 5), up("a", 100)], ["a"], "a", id="as it was"),
        pytest.param([up("b", 5), up("a", 100)], ["b"], "b", id="not back to an older one"),
        pytest.param(
            [up("b", 5, UNHEALTHY), up("a", 100, HEALTHY)],
            ["b"],
            "b",
            id="not even to a healthy one",
        ),
        pytest.param(
            [up("b", 900, UNHEALTHY), up("a", 1000)], ["b"], "b", id="nor after the overlap limit"
        ),
        pytest.param(
            [up("c", 5), up("b", 50), up("a", 100)], ["b"], "b", id="the middle one stays"
        ),
        pytest.param([up("c", 90), up("b", 95), up("a", 100)], ["b"], "c", id="forward it goes"),
        pytest.param(
            [up("c", 5, HEALTHY), up("b", 50, UNHEALTHY), up("a", 100, HEALTHY)],
            ["b"],
            "c",
            id="an unhealthy one goes forward, not back",
        ),
        pytest.param([up("a", 100), down("b", 5)], ["b"], "a", id="back where it has stopped"),
        pytest.param([up("b", 5), up("a", 100)], ["other"], "a", id="another slot's memory"),
        pytest.param(
            [up("a", 5), up("b", 60)], ["a"], "a", id="restarted unseen, and younger now: it stays"
        ),
    ],
)
def test_who_is_current_with_a_memory(
    generations: list[Container], before: list[str], current: str
) -> None:
    assert name_of(choice(*generations, incumbents=before)) == current


def test_equal_starts_are_told_apart_by_creation_then_by_id() -> None:
    younger = container("b", ago=5, created=NOW - 10)
    older = container("c", ago=5, created=NOW - 20)
    assert name_of(choice(younger, older)) == "c"
    assert name_of(choice(up("b", 5), up("a", 5))) == "a"


@pytest.mark.parametrize(
    ("generations", "current"),
    [
        pytest.param([down("a", 1)], "a", id="stopped"),
        pytest.param([down("a", 3599)], "a", id="for almost as long as it is kept"),
        pytest.param([down("a", 1, State.DEAD)], "a", id="dead"),
        pytest.param([down("a", 1, State.REMOVING)], "a", id="being removed"),
        pytest.param([down("a", 1, State.RESTARTING)], "a", id="between two tries"),
        pytest.param([down("a", 50), down("b", 9)], "b", id="of two the one that stopped last"),
        pytest.param([down("a", 9), down("b", 50)], "a", id="whichever is the newer one"),
        pytest.param([down("a", 50), down("b", 9, State.CREATED)], "a", id="not one only created"),
    ],
)
def test_where_none_runs_the_last_stopped_one_is_kept(
    generations: list[Container], current: str
) -> None:
    chosen = choice(*generations)
    assert chosen.current
    assert chosen.current.name == current
    assert chosen.kept
    assert chosen.changes_at == chosen.current.since + KEEP


@pytest.mark.parametrize(
    "generations",
    [
        pytest.param([], id="nothing there"),
        pytest.param([down("a", 3600)], id="just expired"),
        pytest.param([down("a", 9999), down("b", 5000)], id="all expired"),
        pytest.param([down("a", 1, State.CREATED)], id="only created"),
        pytest.param([down("a", 9999), down("b", 1, State.CREATED)], id="expired, and created"),
    ],
)
def test_where_nothing_is_kept_none_is_current(generations: list[Container]) -> None:
    assert choice(*generations) == Choice(None, kept=False, changes_at=NEVER)


def test_an_incumbent_that_runs_is_not_called_kept() -> None:
    assert not choice(up("a", 5)).kept


@pytest.mark.parametrize(
    ("generations", "changes_in"),
    [
        pytest.param([up("a", 5)], None, id="nobody waits"),
        pytest.param([up("b", 5), up("a", 100)], 85, id="when the candidate is due"),
        pytest.param([up("c", 5), up("b", 30), up("a", 100)], 60, id="when the first one is due"),
        pytest.param([up("b", 5, UNHEALTHY), up("a", 100)], None, id="an unhealthy one never is"),
        pytest.param([up("b", 90), up("a", 100)], None, id="nobody waits any more"),
        pytest.param([up("c", 5), up("b", 90), up("a", 100)], 85, id="the next one waits"),
        pytest.param(
            [up("c", 5), up("b", 30, HEALTHY), up("a", 100, UNHEALTHY)],
            85,
            id="after a healthy one",
        ),
    ],
)
def test_it_says_when_time_alone_will_change_the_answer(
    generations: list[Container], changes_in: float | None
) -> None:
    now = choice(*generations)
    assert now.changes_at == (NEVER if changes_in is None else NOW + changes_in)
    if changes_in is not None:
        assert name_of(choice(*generations, after=changes_in - 0.001)) == name_of(now)
        assert name_of(choice(*generations, after=changes_in)) != name_of(now)


def test_what_is_kept_ends_when_it_says() -> None:
    kept = choice(down("a", 5))
    assert name_of(choice(down("a", 5), after=kept.changes_at - NOW - 0.001)) == "a"
    assert choice(down("a", 5), after=kept.changes_at - NOW).current is None
