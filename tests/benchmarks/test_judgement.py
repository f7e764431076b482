"""Each way of going wrong, as a short track of a slot whose v2 takes over from v1 at 100 s."""

from collections.abc import Iterable

import pytest

from tests.benchmarks.judgement import Tally, judge, total
from tests.benchmarks.samples import Labels, Sample, Track
from tests.benchmarks.truth import Generation, Slot, Truth, Window
from tests.lab.image import RATE

WEB = Slot("shop", "web")
V1 = Generation(WEB, "v1", "v1", started=0.0, stopped=100.0)
V2 = Generation(WEB, "v2", "v2", started=89.0)
BAD = Generation(WEB, "bad", "bad", started=120.0, stopped=132.0, failed=True)
JOB = Generation(Slot("shop", "job"), "v1", "job", started=40.0)
TRUTH = Truth([V1, V2, BAD, JOB])
DEPLOY = Window(85.0, 135.0)
SERIES: Labels = frozenset({("instance", "shop-web:9394")})


def scrape(time: float, by: Generation, series: Labels = SERIES, took: float = 0.01) -> Sample:
    value = round((time - by.started) * RATE)
    return Sample(time, time + took, float(value), by.container, series)


def scrapes(*seen: tuple[float, Generation]) -> list[Sample]:
    return [scrape(time, by) for time, by in seen]


def judged(samples: Iterable[Sample], failed: Iterable[float] = ()) -> Tally:
    samples = list(samples)
    ups = [(sample.time, 1.0) for sample in samples] + [(time, 0.0) for time in failed]
    track = Track(WEB, tuple(samples), tuple(sorted(ups)))
    (tally,) = judge(track, TRUTH, [DEPLOY], interval=5.0)
    return tally


BEFORE = [(time, V1) for time in (82.0, 87.0, 92.0, 97.0)]
AFTER = [(time, V2) for time in (102.0, 107.0, 112.0, 117.0, 122.0, 127.0, 132.0)]
CLEAN = scrapes(*BEFORE, *AFTER)


def test_what_stays_with_the_oldest_until_it_stops_loses_what_no_scrape_can_bring() -> None:
    tally = judged(CLEAN)
    assert tally == Tally(growth=61.0, tails=[3.0], after_stop=[2.0], after_start=[13.0])
    assert tally.lost == 3.0


def test_what_jumps_to_the_newest_loses_the_old_one_s_overlap() -> None:
    early = [(time, V2) for time in (92.0, 97.0)]
    tally = judged(scrapes(*BEFORE[:2], *early, *AFTER))
    assert tally.not_current == 2
    assert tally.tails == [13.0]
    assert (tally.false_increase, tally.returns) == (0.0, 0)


def test_a_return_to_the_old_one_is_a_false_increase() -> None:
    # v1 87 s, v2 3 s, v1 97 s: the step from 3 to 97 is 84 s more than the true 10 s; v2 then
    # goes down again to 13 s, which is counted whole, and 10 s of it were new.
    tally = judged(scrapes(*BEFORE[:2], (92.0, V2), (97.0, V1), *AFTER))
    assert tally.returns == 2
    assert tally.not_current == 1
    assert tally.false_increase == pytest.approx((97 - 3 - 10) + 3)
    assert tally.lost == 3.0


def test_another_role_s_sample_is_wrong_even_if_the_sum_comes_out_right() -> None:
    # 97 s, down to job's 62 s, down to 18 s: all 62 s are false, and none of v2's 18 s is.
    tally = judged(scrapes(*BEFORE, (102.0, JOB), *AFTER[1:]))
    assert tally.wrong_role == 1
    assert tally.not_current == 0
    assert tally.false_increase == 62.0
    assert tally.after_stop == [7.0]
    # An unknown container has no business in the slot either.
    foreign = CLEAN[5]._replace(container="")
    assert judged([*CLEAN[:5], foreign, *CLEAN[6:]]).wrong_role == 1


def test_a_failed_candidate_is_never_current_and_its_growth_is_false() -> None:
    tally = judged(scrapes(*BEFORE, *AFTER[:4], (122.0, BAD), *AFTER[5:]))
    assert tally.not_current == 1
    assert tally.returns == 1
    # v2 28 s, bad 2 s, v2 38 s: 2 + 36 are counted where 10 are true.
    assert tally.false_increase == pytest.approx(2 + 36 - 10)


def test_a_reset_that_nobody_saw_is_lost_growth() -> None:
    young = V1._replace(started=80.0)
    track = Track(WEB, (scrape(82.0, young), scrape(102.0, V2)), ())
    (tally,) = judge(track, Truth([young, V2]), [DEPLOY], interval=5.0)
    # From 2 s to 13 s looks like 11 s of growth; it was 13 s.
    assert tally.unseen_reset == 2.0
    assert tally.lost == 18.0 + 2.0


def test_new_series_count_and_begin_with_a_value_that_nothing_counts() -> None:
    other: Labels = frozenset({("instance", "10.0.0.3:9394")})
    tally = judged([*CLEAN[:4], *(scrape(time, V2, other) for time, _ in AFTER)])
    assert tally.new_series == 1
    assert tally.unseen_reset == 13.0


def test_a_generation_that_no_good_scrape_ever_met_is_told() -> None:
    tally = judged(scrapes(*BEFORE, (99.0, V2)), failed=[102.0])
    assert tally.never_seen == 1
    assert tally.after_stop == []
    # Of an old one that no scrape met, all the growth is lost.
    track = Track(WEB, tuple(scrapes(*AFTER)), ())
    assert judge(track, TRUTH, [DEPLOY], interval=5.0)[0].tails == [100.0]


@pytest.mark.parametrize(
    ("took", "wrong"),
    [(0.01, 1), (1.5, 0)],
    ids=["quickly", "in a scrape that waited for the hand-over"],
)
def test_whoever_was_current_at_some_moment_of_the_scrape_is_right(took: float, wrong: int) -> None:
    samples = [*CLEAN[:4], scrape(99.0, V2, took=took), *CLEAN[5:]]
    assert judged(samples).not_current == wrong


@pytest.mark.parametrize(
    ("times", "failed", "missed"),
    [
        ((87, 92, 97, 102, 107, 112, 117, 122, 127, 132), (), 0),
        # One that fails is missed once.
        ((87, 92, 102, 107, 112, 117, 122, 127, 132), (97,), 1),
        # A new target begins at a time of its own; only a whole interval without a scrape counts.
        ((87, 92, 101, 106, 111, 116, 121, 126, 131), (), 0),
        ((87, 92, 101.9, 106, 111, 116, 121, 126, 131), (), 1),
        ((87, 92, 112, 117, 122, 127, 132), (), 3),
        # A dead target beside a good one of the same name.
        ((87, 92, 97, 102, 107, 112, 117, 122, 127, 132), (103, 108), 2),
        # The last ones are missed too.
        ((87, 92, 97, 102, 107, 112, 117, 122), (), 1),
    ],
)
def test_missed_scrapes(times: tuple[float, ...], failed: tuple[float, ...], missed: int) -> None:
    ups = [(float(time), 1.0) for time in times] + [(float(time), 0.0) for time in failed]
    track = Track(WEB, (), tuple(sorted(ups)))
    assert judge(track, TRUTH, [DEPLOY], interval=5.0)[0].missed == missed


def test_what_happens_belongs_to_the_window_in_which_it_does() -> None:
    track = Track(WEB, tuple(CLEAN), ((103.0, 0.0), (108.0, 0.0)))
    windows = [Window(85.0, 105.0), Window(105.0, 110.0)]
    first, second = judge(track, TRUTH, windows, interval=5.0)
    assert (first.missed, second.missed) == (1, 1)
    assert (first.tails, second.tails) == ([3.0], [])
    assert first.growth == 15 + 16
    both = total([first, second])
    assert both.missed == 2
    assert both.tails == [3.0]
    assert both.growth == 15 + 16 + 5
