"""Each part of `make bench`, quickly: a loss of many times cannot come in unseen.

The bounds are wide, because the machine may be busy with anything; what was measured in peace is in
docs/speed.md.
"""

from pathlib import Path

import pytest

from tests.benchmarks import events, lists, questions, relay, serving, start
from tests.benchmarks.fleet import Fleet
from tests.benchmarks.listener import Listener
from tests.benchmarks.rounds import Row, median_ratio, percentile
from tests.lab.engine import Engine
from tests.lab.sd import Server


@pytest.mark.parametrize(
    ("figure", "at_least", "reached"),
    [(1.9, False, True), (2.1, False, False), (1.9, True, False), (2.0, True, True)],
)
def test_a_goal_is_reached_on_its_right_side(figure: float, at_least: bool, reached: bool) -> None:
    row = Row("it", "", "", figure, "times", 2, at_least)
    assert row.is_reached is reached
    assert row.cells[-1] == ("yes" if reached else "**no**")


def test_a_row_without_a_goal_has_none_to_reach() -> None:
    assert Row("it", "1/s", "2/s", 1234.5, "times").cells[3:] == ("1,234 times", "", "")


def test_of_rounds_the_ratios_count() -> None:
    assert median_ratio([1, 20, 3], [1, 10, 1]) == 2
    assert percentile(range(100), 0.95) == 95
    assert percentile([7.0], 0.95) == 7


def test_targets_are_served_nearly_as_fast_as_bytes() -> None:
    found = serving.measure("10 KB", rounds=1, seconds=1)
    for name in ("plain", "filters", "gzip", "304"):
        assert median_ratio(found[name], found["raw ASGI"]) > 0.2, name


def test_it_starts_and_lives_with_little_more_than_its_packages_need() -> None:
    for row in start.rows(start.measure(rounds=1)):
        assert row.figure < 4, row


def test_a_scrape_through_the_relay_costs_a_few_ms() -> None:
    times, answers = relay.measure("10 KB", rounds=1, seconds=1)
    assert times["relay"][0] < 0.1
    assert median_ratio(answers["relay"], answers["nginx"]) > 0.005


@pytest.mark.real
def test_events_and_lists_are_as_quick_as_the_engine(engine: Engine, tmp_path: Path) -> None:
    street = Fleet(engine)
    try:
        street.grow(5)
        with (
            Listener(street.socket) as listener,
            Server(tmp_path / "sd", engine.url) as server,
            events.reading(server) as reader,
        ):
            for values in events.delays(street, reader, listener, events=4).values():
                assert percentile(values, 0.5) < 0.2
            burst = events.burst(street, reader, listener)
            assert max(burst) < 1
        by_requests, by_idling = questions.asked(street, tmp_path / "asked", idle=1, requests=5)
        assert by_requests.figure == 0
        assert by_idling.figure <= 1
        assert by_requests.beside.startswith("6,"), "a list, and five inspects"
        assert lists.rows(lists.measure(street.socket, rounds=3), 5)[0].figure < 10
    finally:
        street.close()
