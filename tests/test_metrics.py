"""kamal-sd's own metrics: each family against a state that is known."""

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app import __revision__, __version__
from app.engine import ledger
from app.metrics import Metrics, RelayResult
from app.model import Network, Snapshot
from app.state import State
from tests.builders import NOW, WEB, container, labels, settings, snapshot, stopped

HOSTS: dict[str, Any] = {
    "engines": [{"url": "unix:///a", "host": "a"}, {"url": "unix:///b", "host": "b"}]
}


class Scrape:
    """The metrics of a state, as a scrape at a time reads them."""

    def __init__(self, *snapshots: Snapshot, at: float = NOW, **given: Any) -> None:
        self._now = NOW
        self.state = State(snapshots, settings(**given), clock=lambda: self._now)
        self._metrics = Metrics(self.state)
        self._now = at

    def samples(self, name: str) -> list[tuple[dict[str, str], float]]:
        text = self._metrics.text().decode()
        return [
            (sample.labels, sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name
        ]

    def by_host(self, name: str) -> dict[str, float]:
        return {labels["host"]: value for labels, value in self.samples(name)}


def test_the_version_that_runs() -> None:
    build = {"version": __version__, "revision": __revision__}
    assert Scrape(snapshot()).samples("kamal_sd_build_info") == [(build, 1.0)]


def test_the_commit_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.metrics.__revision__", "1a2b3c4")
    build = {"version": __version__, "revision": "1a2b3c4"}
    assert Scrape(snapshot()).samples("kamal_sd_build_info") == [(build, 1.0)]


def test_whether_each_engine_is_heard_and_how_old_its_list_is() -> None:
    heard = snapshot(host="a", listed_at=NOW - 12)
    lost = ledger.lost(snapshot(host="b", listed_at=NOW - 300), "Connection refused", NOW - 290)
    scrape = Scrape(heard, lost, **HOSTS)
    assert scrape.by_host("kamal_sd_engine_up") == {"a": 1.0, "b": 0.0}
    assert scrape.by_host("kamal_sd_engine_listed") == {"a": 1.0, "b": 1.0}
    assert scrape.by_host("kamal_sd_engine_list_age_seconds") == {"a": 12.0, "b": 300.0}


def test_an_engine_that_was_never_listed_has_no_age() -> None:
    scrape = Scrape(Snapshot("a"), ledger.lost(Snapshot("b"), "No such file", NOW), **HOSTS)
    assert scrape.by_host("kamal_sd_engine_up") == {"a": 0.0, "b": 0.0}
    assert scrape.by_host("kamal_sd_engine_listed") == {"a": 0.0, "b": 0.0}
    assert scrape.by_host("kamal_sd_engine_list_age_seconds") == {}


def test_the_age_grows_while_nothing_happens() -> None:
    scrape = Scrape(snapshot(), at=NOW + 33)
    assert scrape.by_host("kamal_sd_engine_list_age_seconds") == {"": 33.0}


def test_a_clock_that_was_put_back_makes_no_negative_age() -> None:
    scrape = Scrape(snapshot(), at=NOW - 33)
    assert scrape.by_host("kamal_sd_engine_list_age_seconds") == {"": 0.0}


def test_what_was_heard_and_how_often_it_was_lost() -> None:
    scrape = Scrape(
        snapshot(host="a", events=17, reconnects=3), snapshot(host="b", events=5), **HOSTS
    )
    assert scrape.by_host("kamal_sd_engine_events_total") == {"a": 17.0, "b": 5.0}
    assert scrape.by_host("kamal_sd_engine_reconnects_total") == {"a": 3.0, "b": 0.0}


def test_decisions_are_counted_by_reason() -> None:
    scrape = Scrape(
        snapshot(
            container("shop-web-v2"),
            container("shop-web-v3", ago=5, ip="172.18.0.6"),
            stopped("shop-web-v1", 2000),
            stopped("shop-job-v1", 60, labels=labels(role="job")),
            container("blog-web-v1", ip="172.18.0.7", labels=labels("blog")),
            container("blog-job-v1", labels=labels("blog", "job", port="")),
            container("mail-web-v1", labels=labels("mail", port="70000")),
            container("postgres", labels={}),
            container("redis", labels={}),
        )
    )
    found = scrape.samples("kamal_sd_decisions")
    assert {each["reason"]: value for each, value in found} == {
        "current": 2.0,
        "candidate": 1.0,
        "stopped": 1.0,
        "kept": 1.0,
        "no-port": 1.0,
        "bad-endpoint": 1.0,
        "foreign": 2.0,
    }
    assert {each["host"] for each, _ in found} == {""}


def test_decisions_are_counted_host_by_host() -> None:
    scrape = Scrape(snapshot(container(), host="a"), snapshot(container(), host="b"), **HOSTS)
    assert sorted(
        (each["host"], each["reason"], value)
        for each, value in scrape.samples("kamal_sd_decisions")
    ) == [("a", "current", 1.0), ("b", "current", 1.0)]


def test_two_ports_of_a_container_are_two_decisions_and_one_slot() -> None:
    scrape = Scrape(snapshot(container(labels=labels(port="9394, puma=9395"))))
    assert scrape.samples("kamal_sd_decisions") == [({"host": "", "reason": "current"}, 2.0)]
    assert len(scrape.samples("kamal_sd_slot_info")) == 1


def test_the_info_metric_joins_version_and_container_to_the_slot() -> None:
    web = container("shop-web-staging-v7", labels=labels(destination="staging"))
    scrape = Scrape(
        snapshot(web, container("shop-web-staging-v8", ago=5, labels=labels(destination="staging")))
    )
    assert scrape.samples("kamal_sd_slot_info") == [
        (
            {
                "host": "",
                "service": "shop",
                "role": "web",
                "destination": "staging",
                "version": "v7",
                "container": "shop-web-staging-v7",
                "container_id": web.id,
                "image": "registry.example/shop:v1",
            },
            1.0,
        )
    ]


@pytest.mark.parametrize("destination", ["", "staging"])
def test_its_labels_are_those_of_the_targets_series(destination: str) -> None:
    scrape = Scrape(snapshot(container(labels=labels(destination=destination))))
    ((info, _),) = scrape.samples("kamal_sd_slot_info")
    (decision,) = scrape.state.view.decisions
    assert decision.target
    for name in ("host", "service", "role", "destination"):
        # To Prometheus an empty label is none.
        assert info[name] == decision.target.labels.get(name, "")


def test_a_kept_slot_has_its_last_version() -> None:
    scrape = Scrape(snapshot(stopped("shop-web-v1", 60)))
    ((info, _),) = scrape.samples("kamal_sd_slot_info")
    assert info["version"] == "v1"


def test_a_container_without_a_target_stands_for_no_slot() -> None:
    scrape = Scrape(snapshot(container(labels=labels(port=""))))
    assert scrape.samples("kamal_sd_slot_info") == []


def test_a_deploy_moves_the_info_to_the_new_container() -> None:
    old, new = container("shop-web-v1"), container("shop-web-v2", ago=5)
    scrape = Scrape(snapshot(old, new))

    def versions() -> list[str]:
        return [info["version"] for info, _ in scrape.samples("kamal_sd_slot_info")]

    assert versions() == ["v1"]
    scrape.state.publish(ledger.died(scrape.state.view.snapshots[0], old.id, NOW))
    assert versions() == ["v2"]


def test_the_process_itself() -> None:
    scrape = Scrape(snapshot())
    ((_, memory),) = scrape.samples("process_resident_memory_bytes")
    ((_, files),) = scrape.samples("process_open_fds")
    assert memory > 1e6
    assert files > 2


def test_each_name_has_the_prefix_or_is_the_process() -> None:
    text = Metrics(Scrape(snapshot(container())).state).text().decode()
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert names
    assert all(name.startswith(("kamal_sd_", "process_")) for name in names)
    assert text.endswith("\n")


def test_two_servers_in_one_process_do_not_meet() -> None:
    first, second = Scrape(snapshot(events=1)), Scrape(snapshot(events=2))
    assert first.by_host("kamal_sd_engine_events_total") == {"": 1.0}
    assert second.by_host("kamal_sd_engine_events_total") == {"": 2.0}


def test_no_counter_has_a_second_series_that_says_when_it_was_made() -> None:
    scrape = Scrape(snapshot(container()))
    scrape._metrics.relay.observe(WEB, RelayResult.OK, 0.1, 100)
    text = scrape._metrics.text().decode()
    assert "kamal_sd_relay_bytes_total{" in text
    assert "_created" not in text


def test_conflicts_of_aliases_are_counted_by_host() -> None:
    networks = (Network("kamal", "172.18.0.5", aliases=("shop", "other")),)
    web = container(networks=networks)
    job = container("shop-job-v1", labels=labels(role="job"), networks=networks)
    scrape = Scrape(
        snapshot(web, job, host="a"), snapshot(host="b"), aliases={"verify": True}, **HOSTS
    )
    assert scrape.by_host("kamal_sd_alias_conflicts") == {"a": 2.0, "b": 0.0}


def test_slots_are_counted_by_what_they_are() -> None:
    shown = (
        container("shop-web-v1"),
        container("shop-web-v2", ago=5.0, ip="172.18.0.6"),
        container("blog-web-v1", labels=labels("blog"), ip="172.18.0.7"),
        stopped("shop-job-v1", 60.0, labels=labels(role="job")),
        container("shop-cron-v1", labels=labels(role="cron", port="none"), ip="172.18.0.8"),
    )
    found = Scrape(snapshot(*shown, host="a"), snapshot(host="b"), **HOSTS).samples(
        "kamal_sd_slots"
    )
    counts = {(labels["host"], labels["state"]): value for labels, value in found}
    nothing = dict.fromkeys(
        [("b", state) for state in ("current", "deploying", "down", "refused")], 0.0
    )
    assert counts == nothing | {
        ("a", "current"): 1.0,
        ("a", "deploying"): 1.0,
        ("a", "down"): 1.0,
        ("a", "refused"): 1.0,
    }


def test_deploys_are_counted_with_their_overlap() -> None:
    old, new = container("shop-web-v1"), container("shop-web-v2", ago=12.0, ip="172.18.0.6")
    scrape = Scrape(snapshot(old))

    def results() -> dict[str, float]:
        return {each["result"]: value for each, value in scrape.samples("kamal_sd_deploys_total")}

    assert results() == {"took-over": 0.0, "failed": 0.0}
    scrape.state.publish(snapshot(old, new))
    scrape.state.publish(ledger.died(snapshot(old, new), new.id, NOW))
    assert results() == {"took-over": 0.0, "failed": 1.0}
    scrape.state.publish(snapshot(old, new))
    scrape.state.publish(ledger.died(snapshot(old, new), old.id, NOW))
    assert results() == {"took-over": 1.0, "failed": 1.0}
    ((of, overlap),) = scrape.samples("kamal_sd_deploy_overlap_seconds_total")
    assert (of["service"], of["role"], overlap) == ("shop", "web", 12.0)


def test_a_slot_that_is_gone_takes_its_deploys_along() -> None:
    scrape = Scrape(snapshot(container()))
    scrape.state.publish(snapshot())
    assert scrape.samples("kamal_sd_deploys_total") == []


def test_since_when_the_settings_hold_and_whether_others_were_refused() -> None:
    scrape = Scrape(snapshot(), at=NOW + 9)
    name = "kamal_sd_config_last_reload_success"
    assert scrape.samples(f"{name}ful") == [({}, 1.0)]
    assert scrape.samples(f"{name}_timestamp_seconds") == [({}, NOW)]
    scrape.state.refuse("config.yml: line 1: no")
    assert scrape.samples(f"{name}ful") == [({}, 0.0)]
    assert scrape.samples(f"{name}_timestamp_seconds") == [({}, NOW)]
    scrape.state.reconfigure(settings())
    assert scrape.samples(f"{name}ful") == [({}, 1.0)]
    assert scrape.samples(f"{name}_timestamp_seconds") == [({}, NOW + 9)]
