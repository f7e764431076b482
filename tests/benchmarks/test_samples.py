import pytest

from tests.benchmarks.samples import Sample, Series, tracks
from tests.benchmarks.truth import Slot


def series(name: str, *values: tuple[float, float], role: str = "web", **labels: str) -> Series:
    own = {"__name__": name, "job": "way", "service": "shop", "role": role}
    return Series(own | labels, list(values))


def test_what_one_scrape_brought_is_put_together_by_its_timestamp() -> None:
    counter = series("shop_requests_total", (10.0, 100.0), (15.0, 7.0))
    web, job = tracks_in_order = tracks(
        [
            series("shop_build_info", (15.0, 1.0), container="new", exported_role="web"),
            series("shop_build_info", (10.0, 1.0), container="old", exported_role="web"),
            series("up", (5.0, 0.0), (10.0, 1.0), (15.0, 1.0)),
            series("scrape_duration_seconds", (10.0, 0.25), (15.0, 0.5)),
            counter,
            series("up", (11.0, 0.0), role="job"),
        ]
    )[::-1]
    assert [each.slot for each in tracks_in_order] == [Slot("shop", "web"), Slot("shop", "job")]
    labels = frozenset(counter.labels.items())
    assert web.samples == (
        Sample(10.0, 10.25, 100.0, "old", labels),
        Sample(15.0, 15.5, 7.0, "new", labels),
    )
    assert web.ups == ((5.0, 0.0), (10.0, 1.0), (15.0, 1.0))
    assert job.samples == ()
    assert job.ups == ((11.0, 0.0),)


def test_two_series_of_a_slot_are_one_track_in_the_order_of_time() -> None:
    (track,) = tracks(
        [
            series("shop_requests_total", (10.0, 1.0), (20.0, 2.0), instance="a"),
            series("shop_requests_total", (15.0, 3.0), instance="b"),
        ]
    )
    assert [each.value for each in track.samples] == [1.0, 3.0, 2.0]
    assert len({each.series for each in track.samples}) == 2


def test_a_metric_that_nobody_asked_for_is_refused() -> None:
    with pytest.raises(ValueError, match="nobody asked for shop_secrets"):
        tracks([series("shop_secrets", (1.0, 1.0))])
