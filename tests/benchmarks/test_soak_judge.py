"""The soak's judge finds what is wrong, and lets pass what is right."""

import json
import time
from collections.abc import Mapping

import pytest

from tests.benchmarks.samples import Series
from tests.benchmarks.soak import judge
from tests.benchmarks.soak.judge import Held
from tests.benchmarks.soak.truth import Fleet, Hearing
from tests.benchmarks.truth import Slot

WEB, JOB = Slot("shop", "web"), Slot("shop", "job")
# What is long over is forgotten.
NOW = time.time()


@pytest.fixture
def fleet() -> Fleet:
    """`web` was v1 until a minute ago, when v2 took over; `job` is v1."""
    fleet = Fleet()
    fleet.expected = {WEB, JOB}
    for slot, version, begins, ends in (
        (WEB, "v1", NOW - 600, NOW - 60),
        (WEB, "v2", NOW - 61, NOW + 600),
        (JOB, "v1", NOW - 600, NOW + 600),
    ):
        claim = fleet.claim(slot, version)
        claim.begins, claim.ends = begins, ends
    return fleet


@pytest.fixture
def hearing() -> Hearing:
    return Hearing()


def answer(versions: Mapping[Slot, str], address: str = "relay:9889", **more: str) -> bytes:
    """What /targets answers for these versions."""
    groups = [
        {
            "targets": [address],
            "labels": {
                "service": slot.service,
                "role": slot.role,
                "instance": f"{slot.service}-{slot.role}:9394",
                "__meta_kamal_version": version,
            }
            | more,
        }
        for slot, version in versions.items()
    ]
    return json.dumps(groups).encode()


GOOD = {WEB: "v2", JOB: "v1"}


def test_a_right_answer_passes(fleet: Fleet, hearing: Hearing) -> None:
    assert judge.of_targets(answer(GOOD), fleet, hearing, NOW, NOW) == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(b"[]", "is missing", id="empty"),
        pytest.param(answer({WEB: "v2"}), "shop-job is missing", id="partial"),
        pytest.param(answer(GOOD)[:-9], "cannot be read", id="torn"),
        pytest.param(answer({WEB: "v1", JOB: "v1"}), "shop-web is 'v1'", id="dead since before"),
        pytest.param(answer({WEB: "v3", JOB: "v1"}), "shop-web is 'v3'", id="never current"),
        pytest.param(answer(GOOD, version="v2"), "has the labels", id="a label of its own"),
        pytest.param(answer(GOOD, address="a.invalid:1"), "is said to be down", id="down"),
        pytest.param(
            answer(GOOD | {Slot("guest", "web"): "v9"}), "guest-web is 'v9'", id="gone for good"
        ),
    ],
)
def test_a_wrong_answer_is_found(body: bytes, words: str, fleet: Fleet, hearing: Hearing) -> None:
    assert words in "; ".join(judge.of_targets(body, fleet, hearing, NOW, NOW))


def test_an_answer_may_be_old_while_the_engine_is_not_heard(fleet: Fleet, hearing: Hearing) -> None:
    span = hearing.deaf.begin()
    old = answer({WEB: "v1", JOB: "v1"})
    span.begins, span.ends = NOW - 61, NOW + 1
    assert judge.of_targets(old, fleet, hearing, NOW, NOW) == []
    # It began too late to be why, or has been over for too long.
    span.begins = NOW - 50
    assert judge.of_targets(old, fleet, hearing, NOW, NOW)
    span.begins, span.ends = NOW - 61, NOW - 5
    assert judge.of_targets(old, fleet, hearing, NOW, NOW)


def test_an_answer_for_one_service_has_no_other(fleet: Fleet, hearing: Hearing) -> None:
    found = judge.of_targets(answer(GOOD), fleet, hearing, NOW, NOW, service="blog")
    assert "shop-web was not asked for" in found


# --- what Prometheus stored ---


def stored(
    *,
    version: str = "v2",
    role: str = "web",
    up: float = 1,
    values: tuple[float, ...] = (),
    left_out: range = range(0),
) -> list[Series]:
    """Ten seconds of a slot, as Prometheus has them."""
    times = [NOW - 10 + second for second in range(10) if second not in left_out]
    labels = {"job": "steady", "service": "shop", "role": "web", "instance": "shop-web:9394"}
    info = {"exported_role": role, "version": version, "container": "c1"}
    grown = values or [500.0 + 10 * second for second in range(10)]
    return [
        Series(labels | {"__name__": "up"}, [(at, up) for at in times]),
        Series(labels | {"__name__": "scrape_duration_seconds"}, [(at, 0.1) for at in times]),
        Series(labels | info | {"__name__": "shop_build_info"}, [(at, 1) for at in times]),
        Series(labels | {"__name__": "shop_requests_total"}, list(zip(times, grown, strict=False))),
    ]


def scraped(series: list[Series], fleet: Fleet, hearing: Hearing) -> str:
    found = judge.of_samples(series, fleet, hearing, NOW - 20, slowest=0.85)
    return "; ".join(found.faults)


@pytest.fixture
def scraped_fleet(fleet: Fleet) -> Fleet:
    """One whose samples are those of `web` alone."""
    fleet.expected = {WEB}
    return fleet


def test_right_samples_pass(scraped_fleet: Fleet, hearing: Hearing) -> None:
    found = judge.of_samples(stored(), scraped_fleet, hearing, NOW - 20, slowest=0.85)
    assert found == judge.Scraped(10, [], 0, [])


@pytest.mark.parametrize(
    ("series", "words"),
    [
        pytest.param(stored(up=0), "up = 0", id="a gap"),
        pytest.param(stored(left_out=range(2, 8)), "was not scraped in the 7.0 s", id="no scrape"),
        pytest.param([], "shop-web has no samples", id="nothing"),
        pytest.param(stored(version="v1"), "shop-web is 'v1'", id="dead since before"),
        pytest.param(stored(role="job"), "has a sample of job", id="of another role"),
        pytest.param(stored(values=(500, 510, 20)), "back to 20", id="a step back"),
        pytest.param(stored(values=(500, 510, 900)), "jumped from 510 to 900", id="a jump"),
    ],
)
def test_wrong_samples_are_found(
    series: list[Series], words: str, scraped_fleet: Fleet, hearing: Hearing
) -> None:
    assert words in scraped(series, scraped_fleet, hearing)


def test_a_gap_is_excused_while_the_app_or_kamal_sd_is_down(
    scraped_fleet: Fleet, hearing: Hearing
) -> None:
    for spans in (scraped_fleet.down[WEB], hearing.away):
        span = spans.begin()
        span.begins, span.ends = NOW - 11, NOW
        assert scraped(stored(up=0), scraped_fleet, hearing) == ""
        # For a part of it alone.
        span.ends = NOW - 8
        assert "up = 0" in scraped(stored(up=0), scraped_fleet, hearing)


def test_samples_may_stray_where_a_deploy_could_not_be_heard(
    scraped_fleet: Fleet, hearing: Hearing
) -> None:
    span = hearing.deaf.begin()
    span.begins, span.ends = NOW - 62, NOW
    found = judge.of_samples(stored(role="job"), scraped_fleet, hearing, NOW - 20, slowest=0.85)
    assert (found.strayed, found.faults) == (10, [])
    # Nothing was deployed meanwhile.
    span.begins = NOW - 30
    assert "has a sample of job" in scraped(stored(role="job"), scraped_fleet, hearing)


def test_a_series_that_nobody_expects_is_found(fleet: Fleet) -> None:
    names = {"__name__": "shop_requests_total", "job": "steady", "service": "shop", "role": "web"}
    good = names | {"instance": "shop-web:9394"}
    assert judge.of_series([good], fleet, ["steady"]) == []
    for more in ({"version": "v2"}, {"instance": "10.0.0.2:9394"}):
        assert len(judge.of_series([good | more], fleet, ["steady"])) == 1


# --- what a process holds ---


def held(
    memory_per_hour: float = 0.0, threads: int = 6, descriptors: int = 28, seconds: int = 1500
) -> list[Held]:
    """A process that was looked at each second, and warmed up in its first half."""
    return [
        Held(
            NOW + at,
            70 + min(at, 300) / 100 + at % 7 / 10 + memory_per_hour * at / 3600,
            threads,
            descriptors,
        )
        for at in range(seconds)
    ]


def test_memory_that_stays_passes() -> None:
    assert judge.of_memory(held()) == []
    assert abs(judge.slope(held())) < 0.1


def test_a_leak_of_memory_is_found() -> None:
    assert "memory rose by" in "".join(judge.of_memory(held(memory_per_hour=12)))
    # In a longer soak a smaller one.
    assert judge.of_memory(held(memory_per_hour=3)) == []
    assert judge.of_memory(held(memory_per_hour=3, seconds=7200))
    # In a short one there is no telling.
    assert judge.of_memory(held(memory_per_hour=60, seconds=60)) == []


def test_threads_and_descriptors_that_stay_are_found() -> None:
    quiet = held()[:5]
    assert judge.of_quiet(quiet) == []
    leaking = [each._replace(threads=6 + 5 * at) for at, each in enumerate(quiet)]
    assert "threads" in "".join(judge.of_quiet(leaking))
    leaking = [each._replace(descriptors=28 + 5 * at) for at, each in enumerate(quiet)]
    assert "descriptors" in "".join(judge.of_quiet(leaking))
