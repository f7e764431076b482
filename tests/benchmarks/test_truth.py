from tests.benchmarks.truth import Generation, Slot, Tenure, Truth, Window

WEB = Slot("shop", "web")
JOB = Slot("shop", "job")
V1 = Generation(WEB, "v1", "1", started=0.0, stopped=100.0)
V2 = Generation(WEB, "v2", "2", started=89.0, stopped=200.0)
BAD = Generation(WEB, "bad", "b", started=120.0, stopped=132.0, failed=True)
V3 = Generation(WEB, "v3", "3", started=210.0)
OTHER = Generation(JOB, "v1", "j", started=1.0)
TRUTH = Truth([V3, BAD, OTHER, V2, V1])


def test_the_oldest_is_current_until_it_stops_and_a_failed_one_never() -> None:
    assert TRUTH.tenures(WEB) == [
        Tenure(V1, 0.0, 100.0),
        Tenure(V2, 100.0, 200.0, before=V1),
        # Nothing ran in between.
        Tenure(V3, 210.0, float("inf"), before=V2),
    ]
    assert TRUTH.tenures(JOB) == [Tenure(OTHER, 1.0, float("inf"))]
    assert TRUTH.tenures(Slot("shop", "cron")) == []


def test_a_generation_counts_from_its_start_and_a_failed_one_not_at_all() -> None:
    # v1 for 50 s, v2 for 71 s, 11 s of which beside v1.
    assert TRUTH.growth(WEB, Window(50.0, 160.0)) == 50 + 71
    assert TRUTH.growth(WEB, Window(201.0, 209.0)) == 0


def test_a_window_ends_where_the_next_one_begins() -> None:
    assert 1.0 in Window(1.0, 2.0)
    assert 2.0 not in Window(1.0, 2.0)
